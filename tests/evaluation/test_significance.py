from __future__ import annotations

import numpy as np
import pytest

from rerank_plugins.evaluation.significance import interval, p_value

NORMAL = np.random.default_rng(7).normal(0.1, 0.5, 400)


def test_the_interval_is_that_of_the_normal_distribution_where_it_holds() -> None:
    """Of 400 normal values the percentile interval is the mean plus and minus 1.96 standard errors, within 5 %."""
    found = interval(NORMAL, seed=0)
    half = 1.96 * NORMAL.std() / 20
    assert found.mean == pytest.approx(NORMAL.mean())
    assert found.mean - found.low == pytest.approx(half, rel=0.05)
    assert found.high - found.mean == pytest.approx(half, rel=0.05)


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    """Of 200 samples of 40 values, about 95 % of the intervals hold the true mean."""
    draw = np.random.default_rng(1)
    held = sum(
        found.low <= 0.3 <= found.high for found in (interval(draw.normal(0.3, 1, 40), seed=n) for n in range(200))
    )
    assert 182 <= held <= 198  # 190 expected; the percentile interval is a little narrow for 40 values


def test_the_same_seed_gives_the_same_interval_and_p() -> None:
    """The same seed gives the same numbers, another seed others."""
    assert interval(NORMAL, seed=3) == interval(NORMAL, seed=3)
    assert interval(NORMAL, seed=3) != interval(NORMAL, seed=4)
    values = NORMAL - 0.1
    assert p_value(values, seed=3) == p_value(values, seed=3) != p_value(values, seed=4)


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1, 2, 3, 4, 5], 2 / 32),  # the two patterns of one sign, of 32
        ([-1, -2, -3, -4, -5], 2 / 32),
        ([1, 1, 1, -1], 10 / 16),  # a sum of 2 or more, in 5 of 16 patterns, and its mirror
        ([0.1, 0.2, -0.3], 1.0),
        ([0, 0, 0, 0], 1.0),
    ],
)
def test_p_of_few_queries_is_exact(differences: list[float], p: float) -> None:
    """Few differences have few sign patterns: p is the counted share that is as extreme."""
    assert p_value(differences, seed=0) == pytest.approx(p)


def test_p_of_many_queries_is_near_the_t_test() -> None:
    """Of 400 normal differences the randomization test and Student's t agree; the smallest p is 2 of 10,001."""
    from scipy.stats import ttest_1samp

    weaker = NORMAL - 0.05
    assert p_value(weaker, seed=0) == pytest.approx(ttest_1samp(weaker, 0).pvalue, abs=0.01)
    assert p_value(NORMAL + 1, seed=0) == pytest.approx(2 / 10_001)


def test_a_single_query_proves_nothing() -> None:
    """The interval of one value is the value, and the p of one difference is 1."""
    found = interval([0.4], seed=0)
    assert (found.mean, found.low, found.high) == (0.4, 0.4, 0.4)
    assert p_value([0.4], seed=0) == 1.0
