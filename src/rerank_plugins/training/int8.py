"""The int8 export of a trained model, with training queries as calibration data."""

from __future__ import annotations

import random
from pathlib import Path

from rerank_plugins.export import Export, export_model
from rerank_plugins.export.calibration_data import CALIBRATION_PAIRS
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.training.dataset import TrainingDataset

__all__ = ["export_int8"]

_COMPARED_QUERIES = 40


def export_int8(output: Path, dataset: TrainingDataset, seed: int, *, progress: bool) -> Export:
    """Export the model in ``output``; the calibration data holds no test query."""
    judged = [query for query in dataset.queries if query.relevant] or dataset.queries
    size = min(len(judged), CALIBRATION_PAIRS + _COMPARED_QUERIES)
    sample = random.Random(seed).sample(judged, size)  # noqa: S311 - a sample, no secret
    passages = dict.fromkeys(passage for query in sample for passage in (*query.relevant, *query.others))
    collection = Collection(
        dataset.collection.name,
        passages={passage: dataset.collection.passages[passage] for passage in passages},
        queries={query.id: dataset.collection.queries[query.id] for query in sample},
        qrels={query.id: dict.fromkeys(query.relevant, 1) for query in sample if query.relevant},
    )
    return export_model(output, "int8", calibration_data=collection, max_queries=_COMPARED_QUERIES, progress=progress)
