"""From scores to an order: sigmoid, threshold, stable sort, top_n. Pure Python, float64."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real

from rerank_plugins.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Highlight:
    """The sentence of a document that answers best: ``document[start:end]``.

    Attributes:
        start: Where its first character is, as Python counts them, from 0.
        end: One after its last; neither is whitespace.
        score: Of the sentence alone, on the scale of the document's; the document's own if it is one sentence.
    """

    start: int
    end: int
    score: float


@dataclass(frozen=True, slots=True)
class RankedResult:
    """One document in its new place.

    Attributes:
        index: Position of the document in the input, from 0.
        score: Relevance in [0, 1]: the sigmoid of the model's logit, ordered and not calibrated; or, of a reranker
            that has a calibration, a probability. None for a document that has none: because of a deadline, or after
            an error with ``on_error="keep_order"``.
        document: The text as it was given.
        truncated: Whether the model saw less than the whole query and document;
            None if the scorer cannot tell.
        highlight: The best sentence, if it was asked for and found.
    """

    index: int
    score: float | None
    document: str
    truncated: bool | None = None
    highlight: Highlight | None = None


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit) for any finite logit, without overflow; the result is in [0, 1]."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def rank(
    scores: Sequence[float],
    *,
    top_n: int | None = None,
    score_threshold: float | None = None,
    order_by: Sequence[float] | None = None,
) -> list[int]:
    """Positions of the scores, best first.

    Args:
        scores: Finite numbers on any scale.
        top_n: How many to keep; None keeps all, more than there are keeps all.
        score_threshold: Keep scores at or above it (``>=``), before ``top_n`` cuts.
        order_by: Numbers to sort by instead, such as the logits of scores that saturate at 1.0.

    Equal numbers keep their input order.
    """
    kept = [i for i, score in enumerate(scores) if score_threshold is None or score >= score_threshold]
    keys = scores if order_by is None else order_by
    kept.sort(key=lambda i: -keys[i])
    return kept if top_n is None else kept[:top_n]


def cut(
    results: Sequence[RankedResult], *, top_n: int | None = None, score_threshold: float | None = None
) -> list[RankedResult]:
    """The results that ``Reranker.rerank`` gives for these settings, out of all of them, best first."""
    return [
        result
        for result in results
        if score_threshold is None or result.score is None or result.score >= score_threshold
    ][:top_n]


def check_top_n(top_n: object) -> None:
    """Raise `InvalidInputError` unless ``top_n`` is None or an integer of at least 0."""
    if top_n is None:
        return
    if isinstance(top_n, bool) or not isinstance(top_n, Integral):
        raise InvalidInputError(
            f"top_n must be an integer or None (all), got {top_n!r} of type {type(top_n).__name__}."
        )
    if int(top_n) < 0:
        raise InvalidInputError(f"top_n must be 0 or more, or None for all, got {top_n}.")


def check_score_threshold(score_threshold: object) -> None:
    """Raise `InvalidInputError` unless ``score_threshold`` is None or a number in [0, 1]."""
    if score_threshold is None:
        return
    if isinstance(score_threshold, bool) or not isinstance(score_threshold, Real):
        raise InvalidInputError(
            f"score_threshold must be a number in [0, 1] or None, got {score_threshold!r} "
            f"of type {type(score_threshold).__name__}."
        )
    # Written so that NaN fails it too.
    if not 0.0 <= float(score_threshold) <= 1.0:
        raise InvalidInputError(
            f"score_threshold must lie in [0, 1], got {score_threshold!r}. Scores are probabilities: "
            f"a threshold on raw logits x becomes rerank_plugins.sigmoid(x)."
        )
