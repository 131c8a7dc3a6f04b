"""Calibration error, Brier score, and the effect of thresholds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from rerank_plugins.evaluation.calibration.curves import ScoredQuery, pool

BINS = 15
"""Bins of the expected calibration error, of equal size. Guo et al. (2017) use 15 bins of equal width; nearly all pairs
of a retrieval would be in the first of these."""

THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class ThresholdEffect:
    """The effect of a ``score_threshold`` on the held-out queries. Shares lie in [0, 1]."""

    threshold: float
    precision: float | None
    """Share of the kept documents that are relevant; None if none is kept."""
    recall: float
    """Share of the relevant candidates that are kept."""
    kept: float
    """Mean number of documents kept a query."""
    empty_with_answer: float
    """Share of the queries with a relevant candidate that return nothing, though they should."""
    empty_without_answer: float
    """Share of the queries that return nothing, as they should, when their relevant candidates are removed."""


def calibration_error(queries: Sequence[ScoredQuery], probability: Callable[[float], float]) -> float:
    """Expected calibration error over all pairs, in [0, 1]: 0 if pairs of probability p are relevant in p of all cases.

    The pairs are sorted by score and cut into `BINS` of equal size. The error is the mean distance between the mean
    probability of a bin and its share of relevant pairs, weighted by size. The bins are the same for every
    non-decreasing ``probability``.
    """
    scores, relevant = pool(queries)
    order = np.argsort(scores, kind="stable")
    predicted = np.array([probability(score) for score in scores[order].tolist()])
    distances = predicted - relevant[order].astype(np.float64)
    bins = np.array_split(np.arange(len(scores)), BINS)
    return float(sum(abs(distances[part].sum()) for part in bins) / len(scores))


def brier_score(queries: Sequence[ScoredQuery], probability: Callable[[float], float]) -> float:
    """Mean squared distance between the probability of a pair and 1 if it is relevant, 0 if not; in [0, 1]."""
    pairs = (pair for query in queries for pair in zip(query.scores, query.relevant, strict=True))
    return fmean((probability(score) - relevant) ** 2 for score, relevant in pairs)


def threshold_effect(
    queries: Sequence[ScoredQuery], probability: Callable[[float], float], threshold: float
) -> ThresholdEffect:
    """The effect of a threshold; at least one of the queries has a relevant candidate."""
    # For each query, the number of relevant and of other candidates that are kept.
    hits, misses = [], []
    for query in queries:
        kept = [probability(score) >= threshold for score in query.scores]
        hits.append(sum(keep and label for keep, label in zip(kept, query.relevant, strict=True)))
        misses.append(sum(kept) - hits[-1])
    total = sum(hits) + sum(misses)
    answered = [hit + miss for query, hit, miss in zip(queries, hits, misses, strict=True) if query.answered]
    return ThresholdEffect(
        threshold,
        precision=sum(hits) / total if total else None,
        recall=sum(hits) / sum(sum(query.relevant) for query in queries),
        kept=total / len(queries),
        empty_with_answer=answered.count(0) / len(answered),
        empty_without_answer=misses.count(0) / len(misses),
    )
