"""Query-passage pairs to calibrate int8 with, and others, of other queries, to compare models on."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.text import read_file, read_lines
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.retrieval.beir import Collection, example_collection, read_collection
from rerank_plugins.scorers.base import Pair
from rerank_plugins.tokenization.pair_encoder import PairEncoder

CALIBRATION_PAIRS = 128
"""Pairs that the ranges of the activations are taken from."""

CANDIDATES = 20
"""Passages a query: what a retriever might hand over."""

_Beside = dict[str, list[str]]  # query id → ids of passages that are known to belong beside it

_FEWEST_QUERIES = 10
_MOST_PASSAGES = 20_000
_SEED = 11
# A tokenizer that lacks a language's characters writes one id again and again: [UNK].
_MOST_OF_ONE_ID = 0.2


@dataclass(frozen=True, slots=True)
class Question:
    """A query with the passages to score for it, and grades of those that are judged."""

    id: str
    text: str
    documents: dict[str, str]
    grades: dict[str, int]

    @property
    def pairs(self) -> list[Pair]:
        """The query beside each of its passages."""
        return [(self.text, passage) for passage in self.documents.values()]


@dataclass(frozen=True, slots=True)
class Texts:
    """What an export works with. No query of ``compared`` is one of ``calibration``."""

    source: str
    calibration: list[Pair]
    compared: list[Question]

    @property
    def sha256(self) -> str:
        """Changes with every text, grade or order."""
        compared = [[question.id, question.text, question.documents, question.grades] for question in self.compared]
        return hashlib.sha256(json.dumps([self.calibration, compared]).encode("utf-8", "replace")).hexdigest()


def read_texts(source: Path | None, encoder: PairEncoder, queries: int) -> Texts:
    """Texts from a BEIR folder, from JSON lines of pairs, or the examples of this project in the model's languages.

    Args:
        source: A folder in BEIR layout; a file of ``{"query": ..., "document": ...}`` lines; or None.
        encoder: Of the model: of the built-in languages those are taken whose characters it knows.
        queries: How many to compare on at most; never more than half of those there are.

    Raises:
        InvalidInputError: A file that cannot be read, or fewer than 10 queries.
    """
    if source is None:
        languages: tuple[Literal["english", "chinese"], ...] = ("english", "chinese")
        collections = {language: read_collection(example_collection(language)) for language in languages}
        readable = {name: found for name, found in collections.items() if _knows(encoder, found)} or collections
        label = f"built-in, {' and '.join(readable)}"
        given = [(collection, _relevant(collection)) for collection in readable.values()]
    else:
        label = source.resolve().name
        if source.is_dir():
            collection = read_collection(source)
            given = [(collection, _relevant(collection))]
        else:
            given = [_read_pairs(source)]
    share = -(-queries // len(given))
    chance = random.Random(_SEED)  # noqa: S311 - a sample, no secret
    parts = [_sample(collection, beside, share, chance) for collection, beside in given]
    calibration = [pair for pairs, _ in parts for pair in pairs]
    chance.shuffle(calibration)
    return Texts(label, calibration[:CALIBRATION_PAIRS], [question for _, found in parts for question in found])


def _knows(encoder: PairEncoder, collection: Collection) -> bool:
    rows = encoder.encode([("a", passage) for passage in list(collection.passages.values())[:20]])
    ids = Counter(number for row in rows for number in row.input_ids)
    return ids.most_common(1)[0][1] < _MOST_OF_ONE_ID * ids.total()


def _relevant(collection: Collection) -> _Beside:
    return {
        query: [passage for passage, grade in grades.items() if grade > 0 and passage in collection.passages]
        for query, grades in collection.qrels.items()
    }


def _sample(
    collection: Collection, beside: _Beside, share: int, chance: random.Random
) -> tuple[list[Pair], list[Question]]:
    known = [name for name, text in collection.queries.items() if not is_blank(text)]
    if len(known) < _FEWEST_QUERIES:
        raise InvalidInputError(
            f"{collection.name} has {len(known)} queries, expected at least {_FEWEST_QUERIES}: half of them to "
            f"calibrate with, the others to compare on. Give more, or leave the calibration out for the built-in set."
        )
    chance.shuffle(known)
    # Judged queries are worth most where models are compared, so those come first.
    known.sort(key=lambda name: not any(grade > 0 for grade in collection.qrels.get(name, {}).values()))
    compared = known[: min(share, len(known) // 2)]
    rest = known[len(compared) :][:CALIBRATION_PAIRS]
    questions = _questions(collection, beside, [*compared, *rest], chance)
    each = -(-CALIBRATION_PAIRS // len(rest))
    pairs = [
        pair
        for question in questions[len(compared) :]
        for pair in chance.sample(question.pairs, k=min(each, len(question.pairs)))
    ]
    return pairs, questions[: len(compared)]


def _questions(collection: Collection, beside: _Beside, names: list[str], chance: random.Random) -> list[Question]:
    """The queries ``names``, each with what is known to belong beside it, then what shares most letters with it."""
    passages = collection.passages
    pool = list(passages)
    if len(pool) > _MOST_PASSAGES:
        wanted = {passage for name in names for passage in beside.get(name, ())}
        pool = sorted({*chance.sample(pool, _MOST_PASSAGES), *wanted})
    nearest = _nearest([collection.queries[name] for name in names], [passages[key] for key in pool])
    questions = []
    for name, positions in zip(names, nearest, strict=True):
        # Half of the candidates at most: where all were relevant, every order would be the best.
        known = beside.get(name, [])[: CANDIDATES // 2]
        chosen = list(dict.fromkeys([*known, *(pool[position] for position in positions)]))
        documents = {key: passages[key] for key in chosen[:CANDIDATES]}
        questions.append(Question(name, collection.queries[name], documents, collection.qrels.get(name, {})))
    return questions


def _nearest(queries: Sequence[str], passages: Sequence[str]) -> list[list[int]]:
    """For each query the positions of passages by TF-IDF of character n-grams, which suits every language."""
    try:
        from sklearn.feature_extraction.text import TfidfVectorizer
    except ImportError as exc:
        raise MissingExtraError("export", "An export's fidelity report", str(exc.name)) from exc
    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    try:
        index = vectorizer.fit_transform(passages)
    except ValueError as exc:
        raise InvalidInputError(
            "All passages to calibrate with are blank. Expected texts as they will be scored."
        ) from exc
    similar: Any = (vectorizer.transform(queries) @ index.T).toarray()
    return [[int(position) for position in (-row).argsort(kind="stable")[:CANDIDATES]] for row in similar]


def _read_pairs(path: Path) -> tuple[Collection, _Beside]:
    """JSON lines of pairs: ids are the numbers of the lines where a text stands first."""
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    beside: _Beside = {}
    for number, line in read_lines(read_file(path), str(path)):
        try:
            row = json.loads(line)
            query, document = row["query"], row["document"]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise _bad_line(path, number) from exc
        if not isinstance(query, str) or not isinstance(document, str):
            raise _bad_line(path, number)
        name = queries.setdefault(query, str(number))
        beside.setdefault(name, []).append(passages.setdefault(document, str(number)))
    collection = Collection(
        path.name,
        passages={name: text for text, name in passages.items()},
        queries={name: text for text, name in queries.items()},
        qrels={},
    )
    return collection, beside


def _bad_line(path: Path, number: int) -> InvalidInputError:
    return InvalidInputError(
        f'{path}, line {number} is no pair. Expected {{"query": "...", "document": "..."}} on every line, or give a '
        f"folder in BEIR layout."
    )
