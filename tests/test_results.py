from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import InvalidInputError, RankedResult, sigmoid
from rerank_plugins.results import check_score_threshold, check_top_n, rank

SCORES = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=16), max_size=30)
LOGITS = st.floats(allow_nan=False, allow_infinity=False, width=32)


def test_ranks_best_first() -> None:
    """Positions come in the order of falling scores."""
    assert rank([0.1, 0.9, 0.5]) == [1, 2, 0]


def test_equal_scores_keep_their_input_order() -> None:
    """Among equal scores the earlier document comes first."""
    assert rank([0.5, 0.9, 0.5, 0.9, 0.5]) == [1, 3, 0, 2, 4]


def test_threshold_keeps_scores_equal_to_it() -> None:
    """A score that equals the threshold is kept, one below it is not."""
    assert rank([0.5, 0.5 - 1e-12, 0.6], score_threshold=0.5) == [2, 0]


def test_top_n_counts_only_what_the_threshold_kept() -> None:
    """The threshold is applied first; top_n does not bring back what it dropped."""
    assert rank([0.2, 0.9, 0.1, 0.8], top_n=3, score_threshold=0.5) == [1, 3]


def test_top_n_cuts_what_the_threshold_kept() -> None:
    """Of the scores above the threshold the best top_n are kept."""
    assert rank([0.7, 0.9, 0.1, 0.8], top_n=2, score_threshold=0.5) == [1, 3]


@pytest.mark.parametrize(
    ("top_n", "expected"), [(None, [1, 2, 0]), (0, []), (1, [1]), (3, [1, 2, 0]), (100, [1, 2, 0])]
)
def test_top_n_keeps_that_many(top_n: int | None, expected: list[int]) -> None:
    """None keeps all, 0 none, and more than there are keeps all."""
    assert rank([0.1, 0.9, 0.5], top_n=top_n) == expected


def test_ranking_nothing_gives_nothing() -> None:
    """No scores are ranked as no positions, whatever else is asked."""
    assert rank([], top_n=3, score_threshold=0.5) == []


@given(scores=SCORES, top_n=st.none() | st.integers(0, 40), threshold=st.none() | st.floats(-2, 2, width=16))
def test_ranking_is_sort_by_score_then_position(
    scores: list[float], top_n: int | None, threshold: float | None
) -> None:
    """For any scores the order is by score, then by position; nothing is lost but by threshold and top_n."""
    kept = [position for position in range(len(scores)) if threshold is None or scores[position] >= threshold]
    expected = sorted(kept, key=lambda position: (-scores[position], position))[:top_n]
    assert rank(scores, top_n=top_n, score_threshold=threshold) == expected


def test_ranking_leaves_the_scores_alone() -> None:
    """The list of scores is read and not sorted in place."""
    scores = [0.1, 0.9, 0.5]
    rank(scores, top_n=1, score_threshold=0.2)
    assert scores == [0.1, 0.9, 0.5]


@pytest.mark.parametrize(("logit", "expected"), [(1000.0, 1.0), (-1000.0, 0.0), (0.0, 0.5)])
def test_sigmoid_is_stable_far_out(logit: float, expected: float) -> None:
    """Logits of plus and minus 1000 overflow nothing and give 1 and 0."""
    assert sigmoid(logit) == expected


@given(logit=st.floats(-30, 30))
def test_sigmoid_agrees_with_its_definition(logit: float) -> None:
    """Where the plain formula is safe, the stable one gives the same number."""
    assert sigmoid(logit) == pytest.approx(1 / (1 + math.exp(-logit)), rel=1e-13)


@given(logit=st.floats(allow_nan=False, allow_infinity=False))
def test_sigmoid_stays_in_the_unit_interval(logit: float) -> None:
    """Any finite float64 becomes a number in [0, 1]."""
    assert 0.0 <= sigmoid(logit) <= 1.0


@given(low=LOGITS, high=LOGITS)
def test_sigmoid_never_turns_an_order_around(low: float, high: float) -> None:
    """Of two float32 logits, as models give them, the larger never gets the smaller score."""
    low, high = sorted((low, high))
    assert sigmoid(low) <= sigmoid(high)


@given(low=st.floats(-15, 15, width=32), gap=st.floats(1e-3, 10))
def test_sigmoid_keeps_different_logits_apart(low: float, gap: float) -> None:
    """In the range of real models, logits that differ by a thousandth give different scores."""
    assert sigmoid(low) < sigmoid(low + gap)


@pytest.mark.parametrize("top_n", [None, 0, 1, 10**9])
def test_good_top_n_passes(top_n: int | None) -> None:
    """None and integers from 0 up are accepted."""
    check_top_n(top_n)


@pytest.mark.parametrize("top_n", [-1, -100])
def test_negative_top_n_is_refused_with_its_value(top_n: int) -> None:
    """A negative top_n is an error that names the number got."""
    with pytest.raises(InvalidInputError, match=f"0 or more.*got {top_n}"):
        check_top_n(top_n)


@pytest.mark.parametrize(("top_n", "kind"), [(1.0, "float"), ("3", "str"), (True, "bool"), (False, "bool")])
def test_top_n_of_another_type_is_refused(top_n: object, kind: str) -> None:
    """A top_n that is no integer is an error that names its type."""
    with pytest.raises(InvalidInputError, match=f"integer.*of type {kind}"):
        check_top_n(top_n)  # type: ignore[arg-type]


@pytest.mark.parametrize("threshold", [None, 0, 0.0, 0.5, 1, 1.0])
def test_good_threshold_passes(threshold: float | None) -> None:
    """None and numbers from 0 to 1, both included, are accepted."""
    check_score_threshold(threshold)


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan, math.inf, -math.inf, 7])
def test_threshold_outside_the_unit_interval_is_refused(threshold: float) -> None:
    """A threshold that no score can be compared with is an error that tells what to do with logits."""
    with pytest.raises(InvalidInputError, match=r"\[0, 1\].*sigmoid"):
        check_score_threshold(threshold)


@pytest.mark.parametrize(("threshold", "kind"), [("0.5", "str"), (True, "bool"), ([0.5], "list")])
def test_threshold_of_another_type_is_refused(threshold: object, kind: str) -> None:
    """A threshold that is no number is an error that names its type."""
    with pytest.raises(InvalidInputError, match=f"number.*of type {kind}"):
        check_score_threshold(threshold)  # type: ignore[arg-type]


def test_results_are_frozen() -> None:
    """A result cannot be changed after it was made."""
    result = RankedResult(0, 0.5, "text")
    with pytest.raises(FrozenInstanceError):
        result.score = 1.0  # type: ignore[misc]
