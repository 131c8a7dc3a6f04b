"""Rerank retrieved documents with a cross-encoder: `load_reranker(...).rerank(query, documents)`.

Importing this package loads neither torch nor openvino nor any framework. The adapters are
`rerank_plugins.langchain` and `rerank_plugins.llama_index`.
"""

from __future__ import annotations

from rerank_plugins.errors import (
    ExportError,
    InvalidInputError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    RerankError,
    ScoringError,
)
from rerank_plugins.loading import DEFAULT_MODEL, load_reranker
from rerank_plugins.ranking import RankedResult, sigmoid
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorer import DetailedScorer, Pair, Scale, ScoredPair, Scorer

__all__ = [
    "DEFAULT_MODEL",
    "DetailedScorer",
    "ExportError",
    "InvalidInputError",
    "MissingExtraError",
    "ModelLoadError",
    "ModelNotFoundError",
    "Pair",
    "RankedResult",
    "RerankError",
    "Reranker",
    "Scale",
    "ScoredPair",
    "Scorer",
    "ScoringError",
    "load_reranker",
    "sigmoid",
]

__version__ = "0.1.0"
