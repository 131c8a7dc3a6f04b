"""Calibration error, Brier score, and the effect of thresholds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import sigmoid
from rerank_plugins.evaluation.calibration.curves import ScoredQuery
from rerank_plugins.evaluation.calibration.error import BINS, brier_score, calibration_error, threshold_effect


def test_the_calibration_error_is_the_distance_in_bins_of_equal_size() -> None:
    """The error is the difference of mean probability and share of relevant pairs, weighted by bin size."""
    scores = [float(number) for number in range(4 * BINS)]
    queries = [ScoredQuery([score], [score % 4 == 0]) for score in scores]
    assert calibration_error(queries, lambda _: 0.25) == pytest.approx(0.0)  # one of four in every bin
    assert calibration_error(queries, lambda _: 0.75) == pytest.approx(0.5)
    half = 2 * BINS
    # The bin in the middle has both halves: 2 × .25 less 2 × 1 is what its four pairs are off in sum.
    assert calibration_error(queries, lambda score: 0.25 if score < half else 1.0) == pytest.approx(
        (7 * 4 * 0.75 + abs(2 * 0.25 + 2 * 1.0 - 1)) / (4 * BINS)
    )
    assert brier_score(queries, lambda _: 0.25) == pytest.approx((0.75**2 + 3 * 0.25**2) / 4)


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=1, max_size=40))
def test_errors_lie_in_0_to_1(pairs: list[tuple[float, bool]]) -> None:
    """For any pairs, fewer than there are bins included."""
    queries = [ScoredQuery([score], [label]) for score, label in pairs]
    for error in (calibration_error, brier_score):
        assert 0 <= error(queries, sigmoid) <= 1


def test_what_a_threshold_does_is_counted_by_query() -> None:
    """Precision, recall, documents kept, and both kinds of queries that return nothing."""
    queries = [
        ScoredQuery([0.8, 0.6, 0.2], [True, False, False]),
        ScoredQuery([0.4, 0.3], [True, False]),
        ScoredQuery([0.55, 0.1], [False, False]),
        ScoredQuery([0.05], [False]),
    ]
    half = threshold_effect(queries, float, 0.5)
    assert (half.precision, half.recall, half.kept) == (pytest.approx(1 / 3), 0.5, 0.75)
    # Of q0 and q1, which have an answer, q1 is empty; with the answers taken out q0 and q2 still keep something.
    assert (half.empty_with_answer, half.empty_without_answer) == (0.5, 0.5)
    most = threshold_effect(queries, float, 0.9)
    assert (most.precision, most.recall, most.kept) == (None, 0.0, 0.0)
    assert (most.empty_with_answer, most.empty_without_answer) == (1.0, 1.0)
