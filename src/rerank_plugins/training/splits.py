"""Training, development and test queries, so that no two splits share a query's text or a relevant passage."""

from __future__ import annotations

import random
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import sample_queries
from rerank_plugins.retrieval.beir import Collection, read_collection, read_qrels
from rerank_plugins.training.config import TrainingConfig
from rerank_plugins.training.results import TrainingData

MIN_TRAINING_QUERIES = 50
"""Chosen, not measured: from fewer a model learns these queries, not what they have in common."""

MIN_HELD_OUT_QUERIES = 10
"""Queries that each of development and test needs."""

MAX_DEVELOPMENT_QUERIES = 100
"""More would cost more time than they tell about which step is the best."""

TEST_SHARE = 0.2
"""Share of the judged queries that is held out for the test where there are qrels of one split only."""

_TRAINING_SPLITS, _TEST_SPLITS = ("train", "dev", "test"), ("test", "dev")

Qrels = Mapping[str, Mapping[str, int]]
"""query id → passage id → grade."""


@dataclass(frozen=True, slots=True)
class DataSplits:
    """A collection and the split of its queries. Every query is in at most one split."""

    collection: Collection
    """The whole collection; its own qrels are those of the training split."""
    train: dict[str, dict[str, int]]
    development: dict[str, dict[str, int]]
    test: dict[str, dict[str, int]]
    unjudged: list[str]
    """Ids of queries without qrels, for a teacher; empty without one."""
    data: TrainingData
    """The counts before candidates are known: every remaining query counts as one to learn from."""

    @property
    def all_queries(self) -> Collection:
        """The collection with every query that needs candidates in its qrels."""
        unjudged: dict[str, dict[str, int]] = {query: {} for query in self.unjudged}
        return self.select({**self.train, **self.development, **self.test, **unjudged})

    def select(self, qrels: dict[str, dict[str, int]]) -> Collection:
        """The collection with the qrels of some queries only."""
        return replace(self.collection, qrels=qrels)


def split_queries(config: TrainingConfig) -> DataSplits:
    """Read the collection and split its queries; those without qrels are used for a teacher only.

    Raises:
        InvalidInputError: A file cannot be used, queries leak, or there are too few queries to hold out.
    """
    folder = expand(config.folder)
    split, test_split = _choose_splits(folder, config.split, config.test_split)
    collection = read_collection(folder, split)
    train, without_relevant = _find_usable(collection)
    leaks: set[str] = set()
    if test_split is None:
        test = _hold_out_test(collection, split, train, config.seed)
    else:
        test = sample_queries(replace(collection, qrels=read_qrels(folder, test_split)), None, config.seed).qrels
        leaks = _find_leaks(collection, train, test, (split, test_split), drop=config.drop_leaks)
    train = {query: grades for query, grades in train.items() if query not in test and query not in leaks}
    size = min(MAX_DEVELOPMENT_QUERIES, max(MIN_HELD_OUT_QUERIES, round(config.development * len(train))))
    chosen = hold_out(collection, train, size, config.seed)
    parts = {
        "train": {query: grades for query, grades in train.items() if query not in chosen},
        "development": {query: train[query] for query in train if query in chosen},
        "test": test,
    }
    unjudged = [] if config.teacher is None else _find_unjudged(folder, collection, split, parts)
    data = TrainingData(
        collection=collection.name,
        split=split,
        test_split=test_split,
        passages=len(collection.passages),
        judged=len(parts["train"]),
        unjudged=len(unjudged),
        development=len(parts["development"]),
        test=len(test),
        without_relevant=without_relevant,
        without_negative=0,
        leaking=len(leaks),
    )
    return DataSplits(collection, **parts, unjudged=unjudged, data=data)


def normalize(text: str) -> str:
    """The text without differences of case and white space."""
    return " ".join(text.casefold().split())


def query_key(collection: Collection, query: str) -> Hashable:
    """Equal for queries of the same text."""
    return "query", normalize(collection.queries[query])


def passage_key(collection: Collection, passage: str) -> Hashable:
    """Equal for passages of the same text; a blank passage, or one not in the corpus, equals itself alone."""
    text = normalize(collection.passages.get(passage, ""))
    return ("text", text) if text else ("passage", passage)


def relevant_keys(collection: Collection, grades: Mapping[str, int]) -> set[Hashable]:
    """The keys of a query's relevant passages, which queries of another split must not share."""
    return {passage_key(collection, passage) for passage, grade in grades.items() if grade > 0}


def group_queries(keys: Mapping[str, Iterable[Hashable]]) -> list[list[str]]:
    """Groups of queries: two that share a key, directly or through others, are in the same group.

    Groups, and the queries in them, come in the order of ``keys``.
    """
    nodes: dict[Hashable, int] = {}
    edges = [
        (number, len(keys) + nodes.setdefault(key, len(nodes)))
        for number, query in enumerate(keys)
        for key in keys[query]
    ]
    size = len(keys) + len(nodes)
    graph = coo_array(([1] * len(edges), tuple(zip(*edges, strict=True)) or ([], [])), shape=(size, size))
    labels = connected_components(graph, directed=False)[1] if size else []
    groups: dict[int, list[str]] = {}
    for query, label in zip(keys, labels, strict=False):  # the labels after them are those of the keys
        groups.setdefault(int(label), []).append(query)
    return list(groups.values())


def hold_out(collection: Collection, qrels: Qrels, size: int, seed: int) -> set[str]:
    """A random sample of at most ``size`` queries, in whole groups; fewer where the groups are too large."""
    groups = group_queries(
        {query: {query_key(collection, query), *relevant_keys(collection, qrels[query])} for query in sorted(qrels)}
    )
    chosen: set[str] = set()
    for group in random.Random(seed).sample(groups, len(groups)):  # noqa: S311 - a sample, no secret
        if len(chosen) + len(group) <= size:
            chosen.update(group)
    return chosen


def _choose_splits(folder: Path, split: str | None, test_split: str | None) -> tuple[str, str | None]:
    """The training and the test split; the second is None where its queries are held out of the first."""
    names = [path.stem for path in sorted((folder / "qrels").glob("*.tsv"))]
    if split is None:
        split = next((name for name in _TRAINING_SPLITS if name in names and name != test_split), "train")
    if split == test_split:
        raise InvalidInputError(
            f"split and test_split are both {split!r}, and what was learned from proves nothing. Leave test_split out: "
            f"then queries of {split!r} are held out for the evaluation."
        )
    if split not in names:
        raise InvalidInputError(
            f"{folder} has no qrels/{split}.tsv to learn from, but {', '.join(names) or 'no qrels at all'}. "
            f"Expected lines of query-id, corpus-id and score, with tabs between them; or name a split that is there."
        )
    if test_split is None:
        test_split = next((name for name in _TEST_SPLITS if name in names and name != split), None)
    return split, test_split


def _find_usable(collection: Collection) -> tuple[dict[str, dict[str, int]], int]:
    """The judged queries with a relevant passage that has text, and how many have only others."""
    judged = {
        query: {passage for passage, grade in grades.items() if grade > 0}
        for query, grades in collection.qrels.items()
        if not is_blank(collection.queries.get(query, ""))
    }
    usable = {
        query: collection.qrels[query]
        for query, relevant in judged.items()
        if any(not is_blank(collection.passages.get(passage, "")) for passage in relevant)
    }
    return usable, sum(bool(relevant) for relevant in judged.values()) - len(usable)


def _hold_out_test(collection: Collection, split: str, train: Qrels, seed: int) -> dict[str, dict[str, int]]:
    size = max(MIN_HELD_OUT_QUERIES, round(TEST_SHARE * len(train)))
    chosen = hold_out(collection, train, size, seed)
    if len(chosen) < MIN_HELD_OUT_QUERIES:
        raise InvalidInputError(
            f"Of the {len(train)} queries of {collection.name} that have a relevant passage in {split}, {len(chosen)} "
            f"could be held out for the evaluation, expected at least {MIN_HELD_OUT_QUERIES}: those that share a "
            f"relevant passage stay together. Give more judged queries, or qrels of other queries in qrels/test.tsv."
        )
    return {query: dict(grades) for query, grades in train.items() if query in chosen}


def _find_leaks(collection: Collection, train: Qrels, test: Qrels, splits: tuple[str, str], *, drop: bool) -> set[str]:
    """Training queries that share their text or a relevant passage with a test query: an error unless ``drop``."""
    texts = {query_key(collection, query): query for query in test}
    passages = {key: query for query, grades in test.items() for key in relevant_keys(collection, grades)}
    same_text = {query: texts[key] for query in train if (key := query_key(collection, query)) in texts}
    same_passage = {
        query: passages[key]
        for query, grades in train.items()
        for key in relevant_keys(collection, grades)
        if key in passages
    }
    leaks = {*same_text, *same_passage}
    if leaks and not drop:
        examples = [
            f"{len(pairs)} {kind} of {splits[1]}, such as {first!r} and {pairs[first]!r}"
            f" ({_shorten(collection.queries[first])!r})"
            for pairs, kind in (
                (same_text, "have the text of a query"),
                (same_passage, "share a relevant passage with a query"),
            )
            if pairs and (first := next(iter(pairs)))
        ]
        raise InvalidInputError(
            f"{len(leaks)} of the {len(train)} queries of {splits[0]} leak into the evaluation: "
            f"{'; '.join(examples)}. Numbers measured so would flatter the model. Leave these out of the training with "
            f"drop_leaks=True (--drop-leaks), or give splits that share nothing."
        )
    return leaks


def _shorten(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _find_unjudged(folder: Path, collection: Collection, split: str, parts: Mapping[str, Qrels]) -> list[str]:
    """Queries without qrels in any split whose text is not that of a query that is held out."""
    judged = {query for part in parts.values() for query in part}
    for path in (folder / "qrels").glob("*.tsv"):
        if path.stem != split:
            judged.update(read_qrels(folder, path.stem))
    held_out = {query for query in judged if query not in parts["train"] and query in collection.queries}
    texts = {normalize(collection.queries[query]) for query in held_out}
    return [
        query
        for query, text in collection.queries.items()
        if query not in judged and not is_blank(text) and normalize(text) not in texts
    ]
