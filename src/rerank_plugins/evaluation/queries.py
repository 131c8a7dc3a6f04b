"""The queries of an evaluation, each with its candidates and qrels."""

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
    """A query, its candidates in the first stage's order, and its qrels."""

    id: str
    text: str
    candidates: list[str]
    """Passage ids."""
    texts: list[str]
    """The texts of the candidates."""
    grades: dict[str, int]
    """Relevance grades by passage id, also of passages that are no candidates."""
    relevant: str
    """The text of the first relevant candidate, or of another relevant passage if no candidate is relevant."""

    @property
    def is_relevant(self) -> list[bool]:
        """Whether each candidate is relevant; one without a grade is not."""
        return [self.grades.get(passage, 0) > 0 for passage in self.candidates]

    @property
    def positions(self) -> list[int]:
        """Positions of the candidates that are scored: `Reranker.rerank` puts blank ones last, without a score."""
        return [position for position, text in enumerate(self.texts) if not is_blank(text)]

    @property
    def pairs(self) -> list[Pair]:
        """The pairs that are scored."""
        return [(self.text, self.texts[position]) for position in self.positions]

    @property
    def digest(self) -> str:
        """A digest of the query's text, and of the ids, texts and order of its candidates."""
        return hashlib.sha256(json.dumps([self.text, self.candidates, self.texts]).encode()).hexdigest()


def check_qrels(collection: Collection) -> None:
    """Raise `InvalidInputError` if the collection has no qrels."""
    if not collection.qrels:
        raise InvalidInputError(
            f"{collection.name} has no qrels, which say what is relevant. "
            f"Expected qrels/test.tsv with lines of query-id, corpus-id and score, with tabs between them."
        )


def sample_queries(collection: Collection, max_queries: int | None, seed: int) -> Collection:
    """The collection with the qrels of ``max_queries`` queries, sampled by ``seed``; of all with None.

    Queries without a relevant passage are left out, because every order would be equally good for them, and so are
    qrels of queries that are not in queries.jsonl.
    """
    check_qrels(collection)
    name = collection.name
    relevant = {query: [one for one in grades if grades[one] > 0] for query, grades in collection.qrels.items()}
    queries = sorted(query for query, passages in relevant.items() if passages and query in collection.queries)
    if not queries:
        raise InvalidInputError(
            f"None of the {len(relevant)} judged queries of {name} is in queries.jsonl and has a passage with a score "
            f"above 0. Give the qrels of these queries."
        )
    if not any(passage in collection.passages for query in queries for passage in relevant[query]):
        raise InvalidInputError(
            f"No relevant passage in the qrels of {name} is in its corpus.jsonl. Expected the _id of a passage in "
            f"their second column."
        )
    if max_queries is not None and max_queries < len(queries):
        queries = sorted(random.Random(seed).sample(queries, max_queries))  # noqa: S311 - no secret
    blank = next((query for query in queries if is_blank(collection.queries[query])), None)
    if blank is not None:
        raise InvalidInputError(
            f"The judged query {blank!r} of {name} is blank. Give it a text, or remove its lines from the qrels."
        )
    return replace(collection, qrels={query: collection.qrels[query] for query in queries})


def build_queries(collection: Collection, stage: FirstStage) -> list[JudgedQuery]:
    """The queries with qrels and candidates, in the order of the qrels. Those without candidates are logged."""
    missing = [query for query in collection.qrels if not stage.candidates.get(query)]
    if missing:
        _log.warning(
            "%d of %d judged queries have no candidates in %s and are left out, %r the first of them.",
            *(len(missing), len(collection.qrels), stage.name, missing[0]),
        )
    queries = []
    for query, grades in collection.qrels.items():
        candidates = [passage for passage, _ in stage.candidates.get(query, [])]
        if candidates:
            relevant = [p for p in [*candidates, *grades] if grades.get(p, 0) > 0 and p in collection.passages]
            texts = [collection.passages[passage] for passage in candidates]
            first = collection.passages[relevant[0]] if relevant else ""
            queries.append(JudgedQuery(query, collection.queries[query], candidates, texts, grades, first))
    return queries
