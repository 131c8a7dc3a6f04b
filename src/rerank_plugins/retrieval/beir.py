"""Retrieval collections in BEIR layout: corpus.jsonl, queries.jsonl and, if judged, qrels/SPLIT.tsv."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rerank_plugins._internal.files import expand
from rerank_plugins._internal.text import json_object, read_file, read_lines
from rerank_plugins.errors import InvalidInputError

SPLITS = ("test", "dev", "train")
"""The judgements that are read if none are named: the first of these that is there."""


@dataclass(frozen=True, slots=True)
class Collection:
    """Texts by their ids, in the order of the files. A passage is its title and its text."""

    name: str
    passages: dict[str, str]
    queries: dict[str, str]
    judgements: dict[str, dict[str, int]]
    """query id → passage id → grade, 0 for judged and not relevant; empty if the folder has none."""


def example_folder(name: str) -> Path:
    """A folder of texts written for this project: in the wheel, or in ``examples/data`` of a checkout."""
    package = Path(__file__).parents[1]
    installed = package / "data" / name
    return installed if installed.is_dir() else package.parents[1] / "examples" / "data" / name


def example_collection(language: Literal["english", "chinese"]) -> Path:
    """The folder of one of the two collections written for this project."""
    return example_folder(language)


def read_collection(folder: str | Path, split: str | None = None) -> Collection:
    """Read ``folder`` with the judgements of ``split``; with None, of the first of `SPLITS` that is there, if any.

    Raises:
        InvalidInputError: A file is missing, or a line of it is not what its name promises.
    """
    folder = expand(folder)
    for name in ("corpus.jsonl", "queries.jsonl"):
        if not (folder / name).is_file():
            raise InvalidInputError(
                f"{folder} has no {name}. Expected a folder in BEIR layout: corpus.jsonl (_id, title, text), "
                f"queries.jsonl (_id, text) and perhaps qrels/test.tsv (query-id, corpus-id, score)."
            )
    passages = _texts(folder / "corpus.jsonl")
    queries = _texts(folder / "queries.jsonl")
    return Collection(folder.resolve().name, passages, queries, read_judgements(folder, split))


def read_judgements(folder: Path, split: str | None) -> dict[str, dict[str, int]]:
    """Those of ``split``; with None of the first of `SPLITS` that is there, empty without any.

    Raises:
        InvalidInputError: ``split`` is not there, or a line of the file is no judgement.
    """
    files = [folder / "qrels" / f"{name}.tsv" for name in ((split,) if split else SPLITS)]
    path = next((file for file in files if file.is_file()), None)
    if path is None:
        if split is None:
            return {}
        raise InvalidInputError(f"{folder} has no qrels/{split}.tsv. Name a split whose file is there.")
    judgements: dict[str, dict[str, int]] = {}
    for number, line in read_lines(read_file(path), str(path)):
        cells = line.split("\t")
        if number == 1 and cells[0] == "query-id":
            continue
        try:
            query, passage, grade = cells
            judgements.setdefault(query, {})[passage] = int(grade)
        except ValueError as exc:
            raise InvalidInputError(
                f"{path}, line {number} is {line!r}. Expected a query's _id, a passage's _id and a whole number, "
                f"with tabs between them."
            ) from exc
    return judgements


def _texts(path: Path) -> dict[str, str]:
    texts: dict[str, str] = {}
    for number, line in read_lines(read_file(path), str(path)):
        row = json_object(line, str(path), number)
        name = row.get("_id")
        if name is None or str(name) in texts:
            problem = "has no _id" if name is None else f"has the _id {name!r} a second time"
            raise InvalidInputError(f"{path}, line {number} {problem}. Give every line an _id of its own.")
        title = str(row.get("title") or "")
        texts[str(name)] = f"{title}. {row['text']}" if title else row["text"]
    if not texts:
        raise InvalidInputError(f"{path} is empty. Expected one JSON object with '_id' and 'text' a line.")
    return texts
