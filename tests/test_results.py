from __future__ import annotations

import math
from dataclasses import FrozenInstanceError

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import RankedResult, sigmoid
from rerank_plugins.results import cut, rank

SCORES = st.lists(st.floats(allow_nan=False, allow_infinity=False, width=16), max_size=30)
LOGITS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(scores=SCORES)
def test_rank_sorts_by_score_then_position(scores: list[float]) -> None:
    """Positions come in the order of falling scores; equal scores keep their input order."""
    assert rank(scores) == sorted(range(len(scores)), key=lambda position: (-scores[position], position))


def ranked(*scores: float | None) -> list[RankedResult]:
    return [RankedResult(number, score, "text") for number, score in enumerate(scores)]


def test_cut_keeps_scores_equal_to_the_threshold() -> None:
    """A score that equals the threshold is kept, one below it is not."""
    assert [result.index for result in cut(ranked(0.6, 0.5, 0.5 - 1e-12), score_threshold=0.5)] == [0, 1]


def test_cut_keeps_results_without_a_score() -> None:
    """A document that was not scored is not known to be below the threshold."""
    assert [result.index for result in cut(ranked(0.6, 0.2, None), score_threshold=0.5)] == [0, 2]


@pytest.mark.parametrize(("top_n", "count"), [(None, 2), (0, 0), (1, 1), (2, 2), (100, 2)])
def test_cut_applies_top_n_after_the_threshold(top_n: int | None, count: int) -> None:
    """None keeps all, 0 none; top_n does not bring back what the threshold dropped."""
    assert len(cut(ranked(0.9, 0.8, 0.2, 0.1), top_n=top_n, score_threshold=0.5)) == count


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


def test_results_are_frozen() -> None:
    """A result cannot be changed."""
    result = RankedResult(0, 0.5, "text")
    with pytest.raises(FrozenInstanceError):
        result.score = 1.0  # type: ignore[misc]
