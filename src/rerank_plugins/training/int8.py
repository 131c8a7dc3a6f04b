"""The int8 export of a trained model, with training queries as calibration data."""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from pathlib import Path

from rerank_plugins.export import Export, export_model
from rerank_plugins.export.calibration_data import CALIBRATION_PAIRS
from rerank_plugins.training.dataset import TrainingDataset

__all__ = ["export_int8"]

_COMPARED_QUERIES = 40


def export_int8(output: Path, work: Path, dataset: TrainingDataset, seed: int, *, progress: bool) -> Export:
    """Export the model in ``output``; the calibration data holds no test query."""
    for left in work.glob("export-*"):
        shutil.rmtree(left, ignore_errors=True)  # of a process that was killed
    with tempfile.TemporaryDirectory(dir=work, prefix="export-") as scratch:
        folder = Path(scratch) / dataset.collection.name
        _write_collection(folder, dataset, seed)
        return export_model(output, "int8", calibration_data=folder, max_queries=_COMPARED_QUERIES, progress=progress)


def _write_collection(folder: Path, dataset: TrainingDataset, seed: int) -> None:
    """Write a sample of the training queries in BEIR layout; the ids are numbers, which no tab can break."""
    judged = [query for query in dataset.queries if query.relevant] or dataset.queries
    size = min(len(judged), CALIBRATION_PAIRS + _COMPARED_QUERIES)
    sample = random.Random(seed).sample(judged, size)  # noqa: S311 - a sample, no secret
    passages = dict.fromkeys(passage for query in sample for passage in (*query.relevant, *query.others))
    numbers = {passage: str(number) for number, passage in enumerate(passages)}
    texts = {
        "corpus.jsonl": [(number, dataset.collection.passages[passage]) for passage, number in numbers.items()],
        "queries.jsonl": [(str(number), dataset.collection.queries[query.id]) for number, query in enumerate(sample)],
    }
    (folder / "qrels").mkdir(parents=True)
    for name, rows in texts.items():
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in rows]
        (folder / name).write_text("".join(lines), encoding="utf-8")
    qrels = [f"{number}\t{numbers[passage]}\t1\n" for number, query in enumerate(sample) for passage in query.relevant]
    if qrels:
        (folder / "qrels" / "test.tsv").write_text("".join(qrels), encoding="utf-8")
