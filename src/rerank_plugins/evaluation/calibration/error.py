"""How far probabilities are from what happened, and what a threshold on them does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rerank_plugins.evaluation.calibration.curves import ScoredQuery, pooled

BINS = 15
"""Of the expected calibration error; as many pairs in each. Guo et al. (2017) have as many, of equal width: nearly all
pairs of a retrieval would be in the first of those."""

THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)


@dataclass(frozen=True, slots=True)
class ThresholdEffect:
    """What ``score_threshold`` does to the held-out queries. Shares lie in [0, 1]."""

    threshold: float
    precision: float | None
    """Share of the documents kept that are relevant; None where none is kept."""
    recall: float
    """Share of the relevant candidates that are kept."""
    kept: float
    """Documents kept a query, on average."""
    empty_with_answer: float
    """Share of the queries with a relevant candidate that return nothing: the wrong ones to."""
    empty_without_answer: float
    """Share of the queries that return nothing when their relevant candidates are taken out: the right ones to."""


def calibration_error(queries: Sequence[ScoredQuery], probability: Callable[[float], float]) -> float:
    """Expected calibration error over all pairs, in [0, 1]: 0 if what has probability p is relevant in p of all cases.

    The pairs are cut by their scores into `BINS` of equal size; it is the mean of the distances between the mean
    probability of a bin and its share of relevant pairs, weighted by size. Any non-decreasing ``probability`` has the
    same bins.
    """
    import numpy as np

    scores, relevant = pooled(queries)
    order = np.argsort(scores, kind="stable")
    predicted = np.array([probability(score) for score in scores[order].tolist()])
    happened = relevant[order].astype(np.float64)
    distances = predicted - happened
    bins = np.array_split(np.arange(len(scores)), BINS)
    return float(sum(abs(distances[part].sum()) for part in bins) / len(scores))


def brier_score(queries: Sequence[ScoredQuery], probability: Callable[[float], float]) -> float:
    """Mean squared distance between the probability of a pair and 1 if it is relevant, 0 if not; in [0, 1]."""
    import numpy as np

    scores, relevant = pooled(queries)
    predicted = np.array([probability(score) for score in scores.tolist()])
    return float(np.mean((predicted - relevant) ** 2))


def threshold_effects(queries: Sequence[ScoredQuery], probability: Callable[[float], float]) -> list[ThresholdEffect]:
    """What each of `THRESHOLDS` does to the queries, at least one of which has a relevant candidate."""
    return [_effect(queries, probability, threshold) for threshold in THRESHOLDS]


def _effect(queries: Sequence[ScoredQuery], probability: Callable[[float], float], threshold: float) -> ThresholdEffect:
    # Of each query, how many of the relevant candidates are kept, and how many of the others.
    right, wrong = [], []
    for query in queries:
        kept = [probability(score) >= threshold for score in query.scores]
        right.append(sum(keep and label for keep, label in zip(kept, query.relevant, strict=True)))
        wrong.append(sum(kept) - right[-1])
    found, all_kept = sum(right), sum(right) + sum(wrong)
    answered = [hits + misses for query, hits, misses in zip(queries, right, wrong, strict=True) if query.answered]
    return ThresholdEffect(
        threshold,
        precision=found / all_kept if all_kept else None,
        recall=found / sum(sum(query.relevant) for query in queries),
        kept=all_kept / len(queries),
        empty_with_answer=answered.count(0) / len(answered),
        empty_without_answer=wrong.count(0) / len(wrong),
    )
