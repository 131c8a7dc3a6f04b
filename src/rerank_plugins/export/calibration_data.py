"""Query-passage pairs to calibrate int8 with, and other queries to compare models on."""

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
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval.beir import Collection, example_collection, read_collection
from rerank_plugins.scorers.base import Pair
from rerank_plugins.tokenization.pair_encoder import PairEncoder

CALIBRATION_PAIRS = 128
"""Pairs that the ranges of the activations are taken from."""

CANDIDATES = 20
"""Passages per query, about as many as a retriever returns."""

_Known = dict[str, list[str]]
"""query id → ids of passages that belong to it: judged relevant, or in the same line of a file."""

_MIN_QUERIES = 10
_MAX_PASSAGES = 20_000
_SEED = 11
# A tokenizer that lacks a language's characters gives one id again and again: [UNK].
_MAX_SHARE_OF_ONE_ID = 0.2


@dataclass(frozen=True, slots=True)
class ComparisonQuery:
    """A query, the passages to score for it, and its qrels."""

    id: str
    text: str
    documents: dict[str, str]
    grades: dict[str, int]

    @property
    def pairs(self) -> list[Pair]:
        """The query with each of its passages."""
        return [(self.text, passage) for passage in self.documents.values()]


@dataclass(frozen=True, slots=True)
class CalibrationData:
    """The texts of an export. No query of ``compared`` is one of ``calibration``."""

    source: str
    calibration: list[Pair]
    compared: list[ComparisonQuery]

    @property
    def sha256(self) -> str:
        """A digest of every text, grade and order."""
        compared = [[query.id, query.text, query.documents, query.grades] for query in self.compared]
        return hashlib.sha256(json.dumps([self.calibration, compared]).encode("utf-8", "replace")).hexdigest()


def read_calibration_data(source: Path | Collection | None, encoder: PairEncoder, max_queries: int) -> CalibrationData:
    """Texts from a BEIR folder, from JSON lines of pairs, a collection, or the bundled ones in the model's languages.

    Args:
        source: A folder in BEIR layout, or what was read of one; a file of ``{"query": ..., "document": ...}`` lines;
            or None.
        encoder: The model's encoder: bundled languages are used if it knows their characters.
        max_queries: How many queries to compare on at most; never more than half of those there are.

    Raises:
        InvalidInputError: A file cannot be read, or has fewer than 10 queries.
    """
    if source is None:
        languages: tuple[Literal["english", "chinese"], ...] = ("english", "chinese")
        bundled = {language: read_collection(example_collection(language)) for language in languages}
        readable = {name: one for name, one in bundled.items() if _is_readable(encoder, one)} or bundled
        label, given = f"built-in, {' and '.join(readable)}", [(one, _relevant(one)) for one in readable.values()]
    elif isinstance(source, Path) and not source.is_dir():
        label, given = source.name, [_read_pairs(source)]
    else:
        collection = source if isinstance(source, Collection) else read_collection(source)
        label, given = collection.name, [(collection, _relevant(collection))]
    share = -(-max_queries // len(given))
    rng = random.Random(_SEED)  # noqa: S311 - a sample, no secret
    parts = [_sample(collection, known, share, rng) for collection, known in given]
    calibration = [pair for pairs, _ in parts for pair in pairs]
    rng.shuffle(calibration)
    return CalibrationData(label, calibration[:CALIBRATION_PAIRS], [query for _, queries in parts for query in queries])


def _is_readable(encoder: PairEncoder, collection: Collection) -> bool:
    rows = encoder.encode([("a", passage) for passage in list(collection.passages.values())[:20]])
    ids = Counter(number for row in rows for number in row.input_ids)
    return ids.most_common(1)[0][1] < _MAX_SHARE_OF_ONE_ID * ids.total()


def _relevant(collection: Collection) -> _Known:
    return {
        query: [passage for passage, grade in grades.items() if grade > 0 and passage in collection.passages]
        for query, grades in collection.qrels.items()
    }


def _sample(
    collection: Collection, known: _Known, share: int, rng: random.Random
) -> tuple[list[Pair], list[ComparisonQuery]]:
    """Calibration pairs, and at most ``share`` other queries to compare on."""
    names = [name for name, text in collection.queries.items() if not is_blank(text)]
    if len(names) < _MIN_QUERIES:
        raise InvalidInputError(
            f"{collection.name} has {len(names)} queries, expected at least {_MIN_QUERIES}: half of them to calibrate "
            f"with, the others to compare on. Give more, or leave calibration_data out for the bundled texts."
        )
    rng.shuffle(names)
    # Judged queries come first: they are worth most where models are compared.
    names.sort(key=lambda name: not any(grade > 0 for grade in collection.qrels.get(name, {}).values()))
    compared = names[: min(share, len(names) // 2)]
    rest = names[len(compared) :][:CALIBRATION_PAIRS]
    queries = _add_candidates(collection, known, [*compared, *rest], rng)
    each = -(-CALIBRATION_PAIRS // len(rest))
    pairs = [
        pair for query in queries[len(compared) :] for pair in rng.sample(query.pairs, k=min(each, len(query.pairs)))
    ]
    return pairs, queries[: len(compared)]


def _add_candidates(
    collection: Collection, known: _Known, names: list[str], rng: random.Random
) -> list[ComparisonQuery]:
    """The queries ``names``, each with the passages known to belong to it, then the most similar ones."""
    passages = collection.passages
    pool = list(passages)
    if len(pool) > _MAX_PASSAGES:
        wanted = {passage for name in names for passage in known.get(name, ())}
        pool = sorted({*rng.sample(pool, _MAX_PASSAGES), *wanted})
    nearest = _find_similar([collection.queries[name] for name in names], [passages[key] for key in pool])
    queries = []
    for name, positions in zip(names, nearest, strict=True):
        # At most half of the candidates: if all were relevant, every order would be the best.
        first = known.get(name, [])[: CANDIDATES // 2]
        chosen = list(dict.fromkeys([*first, *(pool[position] for position in positions)]))
        documents = {key: passages[key] for key in chosen[:CANDIDATES]}
        queries.append(ComparisonQuery(name, collection.queries[name], documents, collection.qrels.get(name, {})))
    return queries


def _find_similar(queries: Sequence[str], passages: Sequence[str]) -> list[list[int]]:
    """For each query the positions of passages by TF-IDF of character n-grams, which works in every language."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), sublinear_tf=True)
    try:
        index = vectorizer.fit_transform(passages)
    except ValueError as exc:
        raise InvalidInputError(
            "All passages to calibrate with are blank. Expected texts as they will be scored."
        ) from exc
    similar: Any = (vectorizer.transform(queries) @ index.T).toarray()
    return [[int(position) for position in (-row).argsort(kind="stable")[:CANDIDATES]] for row in similar]


def _read_pairs(path: Path) -> tuple[Collection, _Known]:
    """JSON lines of pairs; the id of a text is the number of its first line."""
    queries: dict[str, str] = {}
    passages: dict[str, str] = {}
    known: _Known = {}
    for number, line in read_lines(read_file(path), str(path)):
        try:
            row = json.loads(line)
            query, document = row["query"], row["document"]
        except (ValueError, TypeError, KeyError, RecursionError) as exc:
            raise _bad_line(path, number) from exc
        if not isinstance(query, str) or not isinstance(document, str):
            raise _bad_line(path, number)
        name = queries.setdefault(query, str(number))
        known.setdefault(name, []).append(passages.setdefault(document, str(number)))
    collection = Collection(
        path.name,
        passages={name: text for text, name in passages.items()},
        queries={name: text for text, name in queries.items()},
        qrels={},
    )
    return collection, known


def _bad_line(path: Path, number: int) -> InvalidInputError:
    return InvalidInputError(
        f'{path}, line {number} is not a pair. Expected {{"query": "...", "document": "..."}} on every line, or give a '
        f"folder in BEIR layout."
    )
