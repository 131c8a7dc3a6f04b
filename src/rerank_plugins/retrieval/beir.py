"""Collections in BEIR layout: corpus.jsonl, queries.jsonl and, if there are relevance judgments, qrels/SPLIT.tsv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rerank_plugins._internal.files import expand
from rerank_plugins._internal.text import json_object, read_file, read_lines
from rerank_plugins.errors import InvalidInputError

SPLITS = ("test", "dev", "train")
"""The splits in the order in which they are looked for when none is named."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Passages, queries and qrels, in the order of the files. A passage's text is its title and its text."""

    name: str
    passages: dict[str, str]
    """Texts by passage id."""
    queries: dict[str, str]
    """Texts by query id."""
    qrels: dict[str, dict[str, int]]
    """Relevance grades by query id and passage id; 0 is judged and not relevant. Empty if the folder has no qrels."""


@dataclass(frozen=True, slots=True)
class Passage:
    """One line of a corpus file."""

    id: str
    title: str
    text: str


def example_folder(name: str) -> Path:
    """A folder of the texts written for this project: in the wheel, or in ``examples/data`` of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parents[1] / "examples" / "data" / name


def example_collection(language: Literal["english", "chinese"]) -> Path:
    """The folder of one of the two example collections."""
    return example_folder(language)


def example_corpus() -> Path:
    """The corpus file of the English example collection."""
    return example_folder("english") / "corpus.jsonl"


def read_collection(folder: str | Path, split: str | None = None) -> Collection:
    """Read ``folder`` with the qrels of ``split``; with None, of the first of `SPLITS` that exists, if any.

    Raises:
        InvalidInputError: A file is missing, or one of its lines is not in the expected format.
    """
    folder = expand(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise InvalidInputError(
                f"{folder} has no {name}. Expected a folder in BEIR layout: corpus.jsonl (_id, title, text), "
                f"queries.jsonl (_id, text) and perhaps qrels/test.tsv (query-id, corpus-id, score)."
            )
    passages, queries = _read_texts(folder / "corpus.jsonl"), _read_texts(folder / "queries.jsonl")
    return Collection(folder.resolve().name, passages, queries, read_qrels(folder, split))


def read_qrels(folder: Path, split: str | None) -> dict[str, dict[str, int]]:
    """The qrels of ``split``; with None of the first of `SPLITS` that exists, empty if none does."""
    files = [folder / "qrels" / f"{name}.tsv" for name in ((split,) if split else SPLITS)]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        if split is None:
            return {}
        raise InvalidInputError(f"{folder} has no qrels/{split}.tsv. Name a split whose file is there.")
    qrels: dict[str, dict[str, int]] = {}
    for number, line in read_lines(read_file(path), str(path)):
        cells = line.split("\t")
        if number == 1 and cells[0] == "query-id":
            continue
        try:
            query, passage, grade = cells
            qrels.setdefault(query, {})[passage] = int(grade)
        except ValueError as exc:
            raise InvalidInputError(
                f"{path}, line {number} is {line!r}. Expected a query's _id, a passage's _id and a whole number, "
                f"with tabs between them."
            ) from exc
    return qrels


def read_corpus(path: Path) -> list[Passage]:
    """Read JSON lines with ``text`` and optionally ``_id`` and ``title``; blank lines are skipped.

    A passage without an id gets its line number, one without a title the beginning of its text.
    """
    rows = _read_rows(path, ids_required=False)
    return [Passage(name, str(row.get("title") or row["text"][:60]), row["text"]) for name, row in rows.items()]


def read_json_lines(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The JSON objects of a file, each with its line number; every one has a string ``text``."""
    source = str(path)
    rows = [(number, json_object(line, source, number)) for number, line in read_lines(read_file(path), source)]
    if not rows:
        raise InvalidInputError(f"{path} is empty. Expected one JSON object with a field 'text' a line.")
    return rows


def _read_rows(path: Path, *, ids_required: bool) -> dict[str, dict[str, Any]]:
    """The rows of a file by their ids, or by their line numbers if they need none."""
    rows: dict[str, dict[str, Any]] = {}
    for number, row in read_json_lines(path):
        if row.get("_id") is None and ids_required:
            raise InvalidInputError(f"{path}, line {number} has no _id. Give every line an _id of its own.")
        name = str(number if row.get("_id") is None else row["_id"])
        if name in rows:
            raise InvalidInputError(
                f"{path}, line {number} has the _id {name!r} a second time. Give every line an _id of its own."
            )
        rows[name] = row
    return rows


def _read_texts(path: Path) -> dict[str, str]:
    rows = _read_rows(path, ids_required=True)
    return {name: f"{row['title']}. {row['text']}" if row.get("title") else row["text"] for name, row in rows.items()}
