"""Queries with judgements and candidates: what there is to evaluate."""

from __future__ import annotations

import hashlib
import json
import logging
import random
from dataclasses import dataclass, replace

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.first_stage import FirstStage
from rerank_plugins.scorers.base import Pair

_log = logging.getLogger("rerank_plugins")


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """A query, its candidates in the first stage's order, and what was judged."""

    id: str
    text: str
    candidates: list[str]
    """Passage ids; the next: their texts."""
    texts: list[str]
    grades: dict[str, int]
    """By passage id, also of passages that are no candidates. At least one is above 0."""
    relevant: str
    """The text of the relevant passage that the first stage ranked best; of another if it found none."""

    @property
    def is_relevant(self) -> list[bool]:
        """For every candidate; one that nobody judged is not."""
        return [self.grades.get(passage, 0) > 0 for passage in self.candidates]

    @property
    def filled(self) -> list[int]:
        """Positions of the candidates that say something: `Reranker.rerank` puts the others last, unscored."""
        return [position for position, text in enumerate(self.texts) if not is_blank(text)]

    @property
    def pairs(self) -> list[Pair]:
        """What is scored."""
        return [(self.text, self.texts[position]) for position in self.filled]

    @property
    def digest(self) -> str:
        """Names the query's text, and the ids, texts and order of its candidates."""
        told = json.dumps([self.text, self.candidates, self.texts])
        return hashlib.sha256(told.encode()).hexdigest()


def sampled(collection: Collection, most: int | None, seed: int) -> Collection:
    """The collection with the judgements of ``most`` queries, drawn by ``seed``; of all with None.

    Left out are queries of whom no passage is judged relevant, because every order would be equally good for
    them, and judgements of queries that are not in queries.jsonl.

    Raises:
        InvalidInputError: Nothing is judged, or the judgements are of other queries or passages.
    """
    name = collection.name
    if not collection.judgements:
        raise InvalidInputError(
            f"{name} has no judgements, and what is relevant must be known. "
            f"Expected qrels/test.tsv with lines of query-id, corpus-id and score, with tabs between them."
        )
    relevant = {
        query: {passage for passage, grade in grades.items() if grade > 0}
        for query, grades in collection.judgements.items()
    }
    judged = sorted(query for query, passages in relevant.items() if passages and query in collection.queries)
    if not judged:
        raise InvalidInputError(
            f"None of the {len(relevant)} judged queries of {name} is in queries.jsonl and has a passage with a score "
            f"above 0. Give the judgements of these queries."
        )
    if not any(passage in collection.passages for query in judged for passage in relevant[query]):
        raise InvalidInputError(
            f"No passage judged relevant in {name} is in its corpus.jsonl. Expected the _id of a passage in the second "
            f"column of the judgements."
        )
    if most is not None and most < len(judged):
        judged = sorted(random.Random(seed).sample(judged, most))  # noqa: S311 - a sample, no secret
    blank = next((query for query in judged if is_blank(collection.queries[query])), None)
    if blank is not None:
        raise InvalidInputError(
            f"The judged query {blank!r} of {name} is blank. Give it a text, or take its judgements out."
        )
    return replace(collection, judgements={query: collection.judgements[query] for query in judged})


def judged_queries(collection: Collection, stage: FirstStage) -> list[JudgedQuery]:
    """The judged queries that have candidates; how many have none is logged."""
    without = [query for query in collection.judgements if not stage.candidates.get(query)]
    if without:
        _log.warning(
            "%d of %d judged queries have no candidates in %s and are left out, %r the first of them.",
            len(without),
            len(collection.judgements),
            stage.name,
            without[0],
        )
    queries = []
    for query, grades in collection.judgements.items():
        candidates = [passage for passage, _ in stage.candidates.get(query, [])]
        if candidates:
            known = [p for p in [*candidates, *grades] if grades.get(p, 0) > 0 and p in collection.passages]
            queries.append(
                JudgedQuery(
                    query,
                    collection.queries[query],
                    candidates,
                    [collection.passages[passage] for passage in candidates],
                    grades,
                    collection.passages[known[0]] if known else "",
                )
            )
    return queries
