"""Which queries are learned from, which choose the best step, and which are evaluated: no two share an answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.evaluation.queries import sample_queries
from rerank_plugins.retrieval.beir import Collection, read_collection, read_qrels
from rerank_plugins.training.groups import Judgements, held_out, normal, query_key, relevant_keys
from rerank_plugins.training.results import TrainingData

FEWEST_TRAINED = 50
"""Queries to learn from. Chosen, not measured: of fewer a model learns these, not what they have in common."""

FEWEST_HELD_OUT = 10
"""Queries that each of development and evaluation needs."""

MOST_DEVELOPMENT = 100
"""More would cost more time than they tell about which step is the best."""

TEST_SHARE = 0.2
"""Of the judged queries, where there are the judgements of one split only."""

_TRAINED_ON, _TESTED_ON = ("train", "dev", "test"), ("test", "dev")


@dataclass(frozen=True, slots=True)
class Division:
    """A collection and what becomes of its queries. Every query is in one of the four parts at most."""

    collection: Collection
    """Its own judgements are those of ``split``."""
    split: str
    test_split: str | None
    train: dict[str, dict[str, int]]
    development: dict[str, dict[str, int]]
    test: dict[str, dict[str, int]]
    unjudged: list[str]
    """Ids, for a teacher; empty without one."""
    without_relevant: int
    leaking: int

    @property
    def all_judged(self) -> Collection:
        """With every query of the four parts as if it were judged: those that need candidates."""
        unjudged: dict[str, dict[str, int]] = {query: {} for query in self.unjudged}
        return replace(self.collection, qrels={**self.train, **self.development, **self.test, **unjudged})

    @property
    def data(self) -> TrainingData:
        """What is known before candidates are: every query that is left is counted as one to learn from."""
        return TrainingData(
            collection=self.collection.name,
            split=self.split,
            test_split=self.test_split,
            passages=len(self.collection.passages),
            judged=len(self.train),
            unjudged=len(self.unjudged),
            development=len(self.development),
            test=len(self.test),
            without_relevant=self.without_relevant,
            without_negative=0,
            leaking=self.leaking,
        )

    def part(self, judgements: dict[str, dict[str, int]]) -> Collection:
        """The collection with the judgements of one part."""
        return replace(self.collection, qrels=judgements)


def divide(
    folder: Path,
    *,
    split: str | None,
    test_split: str | None,
    development: float,
    seed: int,
    drop_leaks: bool,
    unjudged: bool,
) -> Division:
    """Read ``folder`` and divide its queries; ``unjudged``: also those that nobody judged.

    Raises:
        InvalidInputError: A file that cannot be used, a leak, or too few queries to hold out.
    """
    split, test_split = _chosen(folder, split, test_split)
    collection = read_collection(folder, split)
    judged = {
        query: grades for query, grades in collection.qrels.items() if not is_blank(collection.queries.get(query, ""))
    }
    train = {query: grades for query, grades in judged.items() if _usable(collection, grades)}
    without_relevant = sum(
        any(grade > 0 for grade in grades.values()) for query, grades in judged.items() if query not in train
    )
    leaking: set[str] = set()
    if test_split is None:
        test = _held_out_test(collection, split, train, seed)
    else:
        test = sample_queries(replace(collection, qrels=read_qrels(folder, test_split)), None, seed).qrels
        leaking = _leaking(collection, train, test, (split, test_split), drop=drop_leaks)
    train = {query: grades for query, grades in train.items() if query not in test and query not in leaking}
    size = min(MOST_DEVELOPMENT, max(FEWEST_HELD_OUT, round(development * len(train))))
    chosen = held_out(collection, train, size, seed)
    parts = {
        "train": {query: grades for query, grades in train.items() if query not in chosen},
        "development": {query: train[query] for query in train if query in chosen},
        "test": test,
    }
    others = _unjudged(folder, collection, split, parts) if unjudged else []
    return Division(
        collection, split, test_split, **parts, unjudged=others, without_relevant=without_relevant, leaking=len(leaking)
    )


def _chosen(folder: Path, split: str | None, test_split: str | None) -> tuple[str, str | None]:
    """The two splits; the second is None where its queries are held out of the first."""
    there = [path.stem for path in sorted((folder / "qrels").glob("*.tsv"))]
    if split is None:
        split = next((name for name in _TRAINED_ON if name in there and name != test_split), "train")
    if split == test_split:
        raise InvalidInputError(
            f"split and test_split are both {split!r}, and what was learned from proves nothing. Leave test_split out: "
            f"then queries of {split!r} are held out for the evaluation."
        )
    if split not in there:
        raise InvalidInputError(
            f"{folder} has no qrels/{split}.tsv to learn from, but {', '.join(there) or 'no judgements at all'}. "
            f"Expected lines of query-id, corpus-id and score, with tabs between them; or name a split that is there."
        )
    if test_split is None:
        test_split = next((name for name in _TESTED_ON if name in there and name != split), None)
    return split, test_split


def _usable(collection: Collection, grades: Mapping[str, int]) -> bool:
    """Whether some relevant passage says something."""
    return any(grade > 0 and not is_blank(collection.passages.get(passage, "")) for passage, grade in grades.items())


def _held_out_test(collection: Collection, split: str, train: Judgements, seed: int) -> dict[str, dict[str, int]]:
    size = max(FEWEST_HELD_OUT, round(TEST_SHARE * len(train)))
    chosen = held_out(collection, train, size, seed)
    if len(chosen) < FEWEST_HELD_OUT:
        raise InvalidInputError(
            f"Of the {len(train)} queries of {collection.name} that have a relevant passage in {split}, {len(chosen)} "
            f"could be held out for the evaluation, expected at least {FEWEST_HELD_OUT}: those that share a relevant "
            f"passage stay together. Give more judged queries, or judgements of other queries in qrels/test.tsv."
        )
    return {query: dict(grades) for query, grades in train.items() if query in chosen}


def _leaking(
    collection: Collection, train: Judgements, test: Judgements, splits: tuple[str, str], *, drop: bool
) -> set[str]:
    """Queries of ``train`` that share their text or a relevant passage with one of ``test``: an error, or dropped."""
    asked = {query_key(collection, query): query for query in test}
    answers = {key: query for query, grades in test.items() for key in relevant_keys(collection, grades)}
    same = {query: asked[key] for query in train if (key := query_key(collection, query)) in asked}
    shared = {
        query: answers[key]
        for query, grades in train.items()
        for key in relevant_keys(collection, grades)
        if key in answers
    }
    leaking = same.keys() | shared.keys()
    if leaking and not drop:
        told = [
            f"{len(found)} {what} of {splits[1]}, such as {first!r} and {found[first]!r}"
            f" ({_short(collection.queries[first])!r})"
            for found, what in ((same, "have the text of a query"), (shared, "share a relevant passage with a query"))
            if found and (first := next(iter(found)))
        ]
        raise InvalidInputError(
            f"{len(leaking)} of the {len(train)} queries of {splits[0]} leak into the evaluation: {'; '.join(told)}. "
            f"Numbers measured so would flatter the model. Leave these out of the training with drop_leaks=True "
            f"(--drop-leaks), or give splits that share nothing."
        )
    return set(leaking)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 60 else f"{line[:59]}…"


def _unjudged(folder: Path, collection: Collection, split: str, parts: Mapping[str, Judgements]) -> list[str]:
    """Queries that nobody judged, in any split, and whose text is not that of one that is held out."""
    judged = {query for part in parts.values() for query in part}
    for path in (folder / "qrels").glob("*.tsv"):
        if path.stem != split:
            judged.update(read_qrels(folder, path.stem))
    held = {query for query in judged if query not in parts["train"] and query in collection.queries}
    texts = {normal(collection.queries[query]) for query in held}
    return [
        query
        for query, text in collection.queries.items()
        if query not in judged and not is_blank(text) and normal(text) not in texts
    ]
