"""Folders in BEIR layout, for tests."""

from __future__ import annotations

import json
from pathlib import Path


def write_folder(
    folder: Path,
    passages: dict[str, str],
    queries: dict[str, str],
    qrels: dict[str, dict[str, int]] | None,
) -> Path:
    """Write a collection, with qrels/test.tsv unless ``qrels`` is None."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, texts in (("corpus", passages), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) for key, text in texts.items()]
        (folder / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    if qrels is not None:
        rows = [f"{query}\t{passage}\t{grade}" for query, of in qrels.items() for passage, grade in of.items()]
        (folder / "qrels").mkdir(exist_ok=True)
        (folder / "qrels" / "test.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *rows]), encoding="utf-8")
    return folder


def write_run(path: Path, candidates: dict[str, list[str]]) -> Path:
    """A TREC run file with the candidates of each query, best first."""
    lines = [
        f"{query} Q0 {passage} {rank} {-rank} test"
        for query, passages in candidates.items()
        for rank, passage in enumerate(passages, start=1)
    ]
    path.write_text("\n".join(lines), encoding="utf-8")
    return path
