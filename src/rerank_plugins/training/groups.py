"""Queries that hang together by what they share are held out together."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping, Sequence

from rerank_plugins.retrieval.beir import Collection

Judgements = Mapping[str, Mapping[str, int]]
"""query id → passage id → grade."""


def normal(text: str) -> str:
    """The text without the differences that make no other text: case, and white space."""
    return " ".join(text.casefold().split())


def query_key(collection: Collection, query: str) -> Hashable:
    """Equal for queries of the same text."""
    return "query", normal(collection.queries[query])


def passage_key(collection: Collection, passage: str) -> Hashable:
    """Equal for passages of the same text; a blank one, or one that the corpus lacks, equals itself alone."""
    text = normal(collection.passages.get(passage, ""))
    return ("text", text) if text else ("passage", passage)


def relevant_keys(collection: Collection, grades: Mapping[str, int]) -> set[Hashable]:
    """What a query must not share with a query on the other side."""
    return {passage_key(collection, passage) for passage, grade in grades.items() if grade > 0}


def connected(shares: Mapping[str, Iterable[Hashable]]) -> list[list[str]]:
    """The queries in groups: two that share a key, directly or over others, are in one.

    Groups, and the queries in them, come in the order of ``shares``.
    """
    parent = {query: query for query in shares}

    def root(query: str) -> str:
        while parent[query] != query:
            parent[query] = parent[parent[query]]  # halves the way for the next who asks
            query = parent[query]
        return query

    first: dict[Hashable, str] = {}
    for query, keys in shares.items():
        for key in keys:
            parent[root(query)] = root(first.setdefault(key, query))
    groups: dict[str, list[str]] = {}
    for query in shares:
        groups.setdefault(root(query), []).append(query)
    return list(groups.values())


def held_out(collection: Collection, judgements: Judgements, size: int, seed: int) -> set[str]:
    """At most ``size`` queries, in whole groups, drawn by ``seed``; fewer where the groups are too large."""
    shares = {
        query: {query_key(collection, query), *relevant_keys(collection, judgements[query])}
        for query in sorted(judgements)
    }
    groups: Sequence[list[str]] = connected(shares)
    chosen: set[str] = set()
    for group in random.Random(seed).sample(groups, len(groups)):  # noqa: S311 - a sample, no secret
        if len(chosen) + len(group) <= size:
            chosen.update(group)
    return chosen
