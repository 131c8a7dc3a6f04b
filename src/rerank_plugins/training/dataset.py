"""The training dataset: queries with their passages, the lists sampled from them, and the target of each list."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from scipy.special import softmax

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.text import without_surrogates
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import JudgedQuery, build_queries
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.first_stage import FirstStage
from rerank_plugins.training.config import TrainingConfig
from rerank_plugins.training.results import TrainingData
from rerank_plugins.training.splits import (
    MIN_HELD_OUT_QUERIES,
    MIN_TRAINING_QUERIES,
    DataSplits,
    passage_key,
    relevant_keys,
)

TeacherLogits = dict[str, dict[str, float]]
"""query id → passage id → the teacher's logit."""


@dataclass(frozen=True, slots=True)
class TrainingQuery:
    """A query to learn from; passages by their ids."""

    id: str
    relevant: tuple[str, ...]
    """Passages judged relevant; empty for a query without qrels."""
    others: tuple[str, ...]
    """Candidates that have text and are not judged relevant, best first, each text once."""


@dataclass(frozen=True, slots=True)
class TrainingDataset:
    """Queries to learn from, and judged queries that choose the best step."""

    collection: Collection
    queries: list[TrainingQuery]
    development: list[JudgedQuery]
    data: TrainingData


@dataclass(frozen=True, slots=True)
class TrainingList:
    """Passages of one query, by their ids."""

    query: str
    passages: tuple[str, ...]
    judged: bool
    """Whether the first passage, and no other, is judged relevant; else the list has no qrels."""


def build_dataset(splits: DataSplits, stage: FirstStage) -> TrainingDataset:
    """The training and development queries with the candidates of ``stage``.

    Raises:
        InvalidInputError: There are too few of either.
    """
    collection = splits.collection
    judged = [_training_query(collection, query, grades, stage) for query, grades in splits.train.items()]
    unjudged = [_training_query(collection, query, {}, stage) for query in splits.unjudged]
    usable = [query for query in judged if query.others]
    # A teacher needs at least two passages to prefer one.
    distilled = [query for query in unjudged if len(query.others) > 1]
    development = build_queries(splits.select(splits.development), stage) if splits.development else []
    data = replace(
        splits.data,
        judged=len(usable),
        unjudged=len(distilled),
        development=len(development),
        without_negative=len(judged) - len(usable),
    )
    check_size(data)
    return TrainingDataset(collection, [*usable, *distilled], development, data)


def check_size(data: TrainingData) -> None:
    """Raise `InvalidInputError`, with what was left out and why, if there is too little to learn from."""
    queries = data.judged + data.unjudged
    if queries >= MIN_TRAINING_QUERIES and data.development >= MIN_HELD_OUT_QUERIES:
        return
    raise InvalidInputError(
        f"{data.collection} has {queries} queries to learn from in {data.split} and {data.development} to choose the "
        f"best step by, expected at least {MIN_TRAINING_QUERIES} and {MIN_HELD_OUT_QUERIES}. Of those to learn from "
        f"{data.judged} are judged and {data.unjudged} are not; left out were {data.without_relevant} whose relevant "
        f"passages are blank or not in the corpus, {data.without_negative} that have no candidate beside relevant "
        f"ones, and {data.leaking} that leak into the evaluation; {data.test} are held out for the evaluation. Those "
        f"that share a relevant passage are held out together or not at all. Judge more queries, raise fetch_k, or put "
        f"queries without qrels into queries.jsonl and name a teacher: they are learned from as well."
    )


def _training_query(collection: Collection, query: str, grades: dict[str, int], stage: FirstStage) -> TrainingQuery:
    relevant = [
        passage for passage, grade in grades.items() if grade > 0 and not is_blank(collection.passages.get(passage, ""))
    ]
    seen = relevant_keys(collection, grades)
    others = []
    for passage, _ in stage.candidates.get(query, ()):
        key = passage_key(collection, passage)
        # A copy of a relevant passage is no negative, whatever its id.
        if not is_blank(collection.passages[passage]) and key not in seen:
            seen.add(key)
            others.append(passage)
    return TrainingQuery(query, tuple(relevant), tuple(others))


def sample_lists(queries: Sequence[TrainingQuery], *, list_size: int, epochs: int, seed: int) -> list[TrainingList]:
    """One list per query and epoch, other passages in each, the queries of an epoch in random order.

    A list is shorter than ``list_size`` where the query has fewer candidates.
    """
    lists = []
    for epoch in range(epochs):
        rng = random.Random(f"{seed} {epoch}")  # noqa: S311 - a sample, no secret
        for query in rng.sample(queries, len(queries)):
            first = [rng.choice(query.relevant)] if query.relevant else []
            others = rng.sample(query.others, min(list_size - len(first), len(query.others)))
            lists.append(TrainingList(query.id, (*first, *others), bool(first)))
    return lists


def target_distribution(one: TrainingList, logits: Mapping[str, float] | None, teacher_weight: float) -> list[float]:
    """The probability that each passage of a list should get; they sum to 1.

    ``logits`` are the teacher's, by passage. The target of a list without qrels is the teacher's alone.
    """
    hard = [1.0, *(0.0 for _ in one.passages[1:])]
    if logits is None:
        return hard
    soft: list[float] = softmax([logits[passage] for passage in one.passages]).tolist()
    if not one.judged:
        return soft
    return [(1 - teacher_weight) * label + teacher_weight * share for label, share in zip(hard, soft, strict=True)]


class TrainingExamples:
    """The lists as `ListNetLoss` takes them. Each is built when it is asked for: all texts may not fit into memory."""

    def __init__(
        self,
        dataset: TrainingDataset,
        lists: Sequence[TrainingList],
        teacher_logits: TeacherLogits | None,
        config: TrainingConfig,
    ) -> None:
        self._collection, self._lists = dataset.collection, lists
        self._teacher_logits, self._teacher_weight = teacher_logits, config.teacher_weight

    def __len__(self) -> int:
        return len(self._lists)

    def __getitem__(self, number: int) -> dict[str, Any]:
        one = self._lists[number]
        logits = None if self._teacher_logits is None else self._teacher_logits[one.query]
        return {
            "query": without_surrogates(self._collection.queries[one.query]),
            "docs": [without_surrogates(self._collection.passages[passage]) for passage in one.passages],
            "labels": to_labels(target_distribution(one, logits, self._teacher_weight)),
        }


def to_labels(distribution: Sequence[float]) -> list[float]:
    """Labels for `ListNetLoss`, which takes their softmax: the softmax of logarithms is the distribution itself."""
    return [math.log(share) if share > 0 else -math.inf for share in distribution]
