"""Curves from raw scores to probabilities."""

from __future__ import annotations

import pytest

from calibration_data import Curve, judged_queries, logistic
from rerank_plugins import InvalidInputError
from rerank_plugins.evaluation.calibration.curves import ScoredQuery, better_method, fit


def stairs(score: float) -> float:
    return 0.02 if score < -1 else 0.5 if score < 4 else 0.95


def test_platt_recovers_a_logistic_curve() -> None:
    """Slope and intercept of a logistic curve are recovered from 5,000 pairs."""
    found = fit("platt", judged_queries(logistic, 100))
    assert (found.slope, found.intercept) == pytest.approx((0.7, -3.0), abs=0.15)


def test_platt_stays_finite_where_scores_separate_perfectly() -> None:
    """Scores that separate all relevant from all others leave a curve with values in between."""
    queries = [ScoredQuery([-1.0, -0.5, 0.5, 1.0], [False, False, True, True]) for _ in range(20)]
    found = fit("platt", queries)
    assert 0.001 < found.probability(-0.5) < 0.1
    assert 0.9 < found.probability(0.5) < 0.999


def test_an_isotonic_curve_follows_stairs_and_is_never_certain() -> None:
    """A step function is fitted; probabilities are never exactly 0 or 1; the number of knots is limited."""
    found = fit("isotonic", judged_queries(stairs, 400))
    for score in (-5.0, 1.5, 7.0):
        assert found.probability(score) == pytest.approx(stairs(score), abs=0.06)
    assert 0 < found.probability(-1e9) < found.probability(1e9) < 1
    assert len(found.scores) <= 200


@pytest.mark.parametrize(("curve", "queries", "method"), [(logistic, 40, "platt"), (stairs, 100, "isotonic")])
def test_auto_takes_what_predicts_better(curve: Curve, queries: int, method: str) -> None:
    """Few pairs of a logistic curve choose Platt's method, a step function the isotonic one."""
    chosen, losses = better_method(judged_queries(curve, queries))
    assert chosen == method == min(losses, key=lambda name: losses[name])


def test_few_pairs_are_platts() -> None:
    """With fewer than 1,000 pairs to fit on the isotonic curve is not tried."""
    assert better_method(judged_queries(stairs, 19)) == ("platt", {})
    assert set(better_method(judged_queries(stairs, 20))[1]) == {"platt", "isotonic"}


def test_scores_that_tell_nothing_are_refused() -> None:
    """The same score for all, and relevant ones below the others, give no curve."""
    for queries in (
        [ScoredQuery([1.0, 1.0], [True, False])] * 20,
        [ScoredQuery([-1.0, 1.0], [True, False])] * 20,
    ):
        for method in ("platt", "isotonic"):
            with pytest.raises(InvalidInputError, match="no higher scores than others"):
                fit(method, queries)
