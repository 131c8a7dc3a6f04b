"""Lists to learn from: passages of one query, and how much of the whole each should get."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rerank_plugins.training.dataset import TrainingQuery

SMALLEST_PROBABILITY = 1e-6
"""Of a teacher that gives probabilities: what is nearer to 0 or 1 is taken for this, a logit of 14."""


@dataclass(frozen=True, slots=True)
class TrainingList:
    """Passages of one query, by their ids."""

    query: str
    passages: tuple[str, ...]
    judged: bool
    """The first is judged relevant, and no other; else nothing is known of any."""


def drawn(queries: Sequence[TrainingQuery], *, list_size: int, epochs: int, seed: int) -> list[TrainingList]:
    """One list a query and epoch, other passages in each, the queries of an epoch in random order.

    A list is shorter than ``list_size`` where the query has fewer candidates.
    """
    lists = []
    for epoch in range(epochs):
        chance = random.Random(f"{seed} {epoch}")  # noqa: S311 - a sample, no secret
        for query in chance.sample(queries, len(queries)):
            first = [chance.choice(query.relevant)] if query.relevant else []
            others = chance.sample(query.others, min(list_size - len(first), len(query.others)))
            lists.append(TrainingList(query.id, (*first, *others), bool(first)))
    return lists


def targets(one: TrainingList, logits: Mapping[str, float] | None, weight: float) -> list[float]:
    """The share of the whole that each passage should get; they sum to 1.

    ``logits`` are the teacher's, by passage; ``weight``, in [0, 1], is what they count beside judgements. A list that
    nobody judged is the teacher's alone.
    """
    hard = [1.0, *(0.0 for _ in one.passages[1:])]
    if logits is None:
        return hard
    soft = softmax([logits[passage] for passage in one.passages])
    if not one.judged:
        return soft
    return [(1 - weight) * label + weight * share for label, share in zip(hard, soft, strict=True)]


def log_shares(shares: Sequence[float]) -> list[float]:
    """Labels for ListNetLoss, which takes the softmax of them: that of logarithms is the shares themselves."""
    return [math.log(share) if share > 0 else -math.inf for share in shares]


def softmax(logits: Sequence[float]) -> list[float]:
    """Shares of the whole, also of large logits."""
    top = max(logits)
    powers = [math.exp(logit - top) for logit in logits]
    return [power / sum(powers) for power in powers]


def as_logit(probability: float) -> float:
    """The inverse of the sigmoid, finite at 0 and 1 as well."""
    clipped = min(max(probability, SMALLEST_PROBABILITY), 1 - SMALLEST_PROBABILITY)
    return math.log(clipped / (1 - clipped))
