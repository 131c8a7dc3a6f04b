"""The first stage that examples, evaluation and training need: collections, embedders, candidates."""

from __future__ import annotations

from rerank_plugins.retrieval.beir import SPLITS, Collection, example_collection, read_collection
from rerank_plugins.retrieval.embedder import Embedder, load_embedder

__all__ = ["SPLITS", "Collection", "Embedder", "example_collection", "load_embedder", "read_collection"]
