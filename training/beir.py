"""Read retrieval collections in BEIR layout (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv)."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Collection:
    """One collection and one split of its judgements; texts are keyed by their ids."""

    name: str
    passages: dict[str, str]
    queries: dict[str, str]
    qrels: dict[str, dict[str, int]]


def read_collection(folder: Path, split: str, *, titles: bool = True) -> Collection:
    """Read ``folder``; a passage is its title and its text, as a retriever would index them."""
    passages = {}
    for row in _rows(folder / "corpus.jsonl"):
        title = row.get("title", "") if titles else ""
        passages[row["_id"]] = f"{title}. {row['text']}" if title else row["text"]
    qrels: dict[str, dict[str, int]] = {}
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            qrels.setdefault(row["query-id"], {})[row["corpus-id"]] = int(row["score"])
    queries = {row["_id"]: row["text"] for row in _rows(folder / "queries.jsonl") if row["_id"] in qrels}
    return Collection(folder.name, passages, queries, {q: qrels[q] for q in queries})


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file if line.strip()]
