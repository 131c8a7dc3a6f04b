"""Results of a reranking, and the steps from scores to their order. Pure Python, float64."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from rerank_plugins.scorers.base import ScoredPair

__all__ = ["Highlight", "RankedResult", "rank", "sigmoid"]


@dataclass(frozen=True, slots=True)
class Highlight:
    """The sentence of a document that answers best: ``document[start:end]``, without whitespace around it."""

    start: int
    end: int
    score: float
    """Score of the sentence alone, on the scale of the document's; the document's own if it is one sentence."""


@dataclass(frozen=True, slots=True)
class RankedResult:
    """One document in its new place."""

    index: int
    """Position of the document in the input, from 0."""
    score: float | None
    """Relevance in [0, 1]: the sigmoid of the model's logit, ordered and not calibrated; or, of a reranker that has a
    calibration, a probability. None after a deadline, or after an error with ``on_error="keep_order"``."""
    document: str
    """The text as it was given."""
    truncated: bool | None = None
    """Whether the model saw less than the whole query and document; None if the scorer cannot tell."""
    highlight: Highlight | None = None
    """The best sentence, if highlights were asked for and one was found."""


class Ranking(NamedTuple):
    """All documents of a call in their new order, and the ones that it returns."""

    documents: list[RankedResult]
    """All documents, best first."""
    kept: list[RankedResult]
    """The documents at or above the threshold, ``top_n`` at most, with their highlights."""


def sigmoid(logit: float) -> float:
    """1 / (1 + e^-logit) for any finite logit, without overflow; the result is in [0, 1]."""
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    power = math.exp(logit)
    return power / (1.0 + power)


def rank(scores: Sequence[float]) -> list[int]:
    """Positions of the scores, best first; equal scores keep their input order."""
    return sorted(range(len(scores)), key=scores.__getitem__, reverse=True)


def order_documents(
    texts: Sequence[str],
    positions: Sequence[int],
    scored: Sequence[ScoredPair | None],
    as_score: Callable[[float], float],
) -> list[RankedResult]:
    """All documents in their new order: those with a score best first, those without, blank ones.

    ``positions`` are those of the documents that are not blank, ``scored`` what the scorer gave for each of them.
    """
    found = [(position, pair) for position, pair in zip(positions, scored, strict=True) if pair is not None]
    # Ordered by the scorer's numbers: logits differ where their sigmoids are both 1.0, or a calibration is level.
    ordered = [found[i] for i in rank([pair.score for _, pair in found])]
    results = [RankedResult(p, as_score(pair.score), texts[p], pair.truncated) for p, pair in ordered]
    if len(found) < len(texts):
        results += [RankedResult(p, None, texts[p]) for p, pair in zip(positions, scored, strict=True) if pair is None]
        not_blank = set(positions)
        results += [RankedResult(p, 0.0, text, truncated=False) for p, text in enumerate(texts) if p not in not_blank]
    return results


def cut(
    results: Sequence[RankedResult], *, top_n: int | None = None, score_threshold: float | None = None
) -> list[RankedResult]:
    """The results at or above the threshold, or without a score, and ``top_n`` of them at most."""
    return [
        result
        for result in results
        if score_threshold is None or result.score is None or result.score >= score_threshold
    ][:top_n]
