"""Collections in BEIR layout, embedders and first-stage candidates for examples, evaluation and training."""

from __future__ import annotations

from rerank_plugins.retrieval.beir import (
    SPLITS,
    Collection,
    Passage,
    example_collection,
    example_corpus,
    read_collection,
    read_corpus,
)
from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER, Embedder, load_embedder
from rerank_plugins.retrieval.first_stage import FirstStage, retrieve
from rerank_plugins.retrieval.trec_run import read_run_file

__all__ = [
    "BUNDLED_EMBEDDER",
    "SPLITS",
    "Collection",
    "Embedder",
    "FirstStage",
    "Passage",
    "example_collection",
    "example_corpus",
    "load_embedder",
    "read_collection",
    "read_corpus",
    "read_run_file",
    "retrieve",
]
