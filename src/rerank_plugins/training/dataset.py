"""Queries with what a list is drawn from: relevant passages, and candidates that are not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import JudgedQuery, build_queries
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.first_stage import FirstStage
from rerank_plugins.training.groups import passage_key, relevant_keys
from rerank_plugins.training.results import TrainingData
from rerank_plugins.training.splits import FEWEST_HELD_OUT, FEWEST_TRAINED, Division


@dataclass(frozen=True, slots=True)
class TrainingQuery:
    """A query to learn from; passages by their ids."""

    id: str
    relevant: tuple[str, ...]
    """Judged so; empty for a query that nobody judged."""
    others: tuple[str, ...]
    """Candidates that say something and are not judged relevant, best first, each text once."""


@dataclass(frozen=True, slots=True)
class Material:
    """What a training works with."""

    collection: Collection
    queries: list[TrainingQuery]
    development: list[JudgedQuery]
    data: TrainingData


def gathered(division: Division, stage: FirstStage) -> Material:
    """The queries to learn from and those to choose the best step by, with the candidates of ``stage``.

    Raises:
        InvalidInputError: Too few of either.
    """
    collection = division.collection
    judged = [_query(collection, query, grades, stage) for query, grades in division.train.items()]
    # A teacher has to prefer one to another.
    unjudged = [query for name in division.unjudged if len((query := _query(collection, name, {}, stage)).others) > 1]
    usable = [query for query in judged if query.others]
    development = build_queries(division.part(division.development), stage) if division.development else []
    data = replace(
        division.data,
        judged=len(usable),
        unjudged=len(unjudged),
        development=len(development),
        without_negative=len(judged) - len(usable),
    )
    check_enough(data)
    return Material(collection, [*usable, *unjudged], development, data)


def check_enough(data: TrainingData) -> None:
    """Raise `InvalidInputError`, with what was left out and why, if there is too little to learn from."""
    trained = data.judged + data.unjudged
    if trained >= FEWEST_TRAINED and data.development >= FEWEST_HELD_OUT:
        return
    raise InvalidInputError(
        f"{data.collection} has {trained} queries to learn from in {data.split} and {data.development} to choose the "
        f"best step by, expected at least {FEWEST_TRAINED} and {FEWEST_HELD_OUT}. Of those to learn from {data.judged} "
        f"are judged and {data.unjudged} are not; left out were {data.without_relevant} whose relevant passages are "
        f"blank or not in the corpus, {data.without_negative} that have no candidate beside relevant ones, and "
        f"{data.leaking} that leak into the evaluation; {data.test} are held out for the evaluation. Those that "
        f"share a relevant passage are held out together or not at all. Judge more queries, raise top_k, or put "
        f"queries without judgements into queries.jsonl and name a teacher: it teaches by them as well."
    )


def _query(collection: Collection, query: str, grades: dict[str, int], stage: FirstStage) -> TrainingQuery:
    relevant = [passage for passage, grade in grades.items() if grade > 0]
    seen = relevant_keys(collection, grades)
    others = []
    for passage, _ in stage.candidates.get(query, ()):
        key = passage_key(collection, passage)
        # A copy of a relevant passage is no wrong answer, whatever its id.
        if not is_blank(collection.passages[passage]) and key not in seen:
            seen.add(key)
            others.append(passage)
    told: Sequence[str] = [passage for passage in relevant if not is_blank(collection.passages.get(passage, ""))]
    return TrainingQuery(query, tuple(told), tuple(others))
