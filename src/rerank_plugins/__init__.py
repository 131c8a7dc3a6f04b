"""Rerank retrieved documents with a cross-encoder: `load_reranker(...).rerank(query, documents)`.

Importing this package loads neither torch nor openvino nor any framework. The adapters are
`rerank_plugins.langchain` and `rerank_plugins.llama_index`.
"""

from __future__ import annotations

import logging
import sys

from rerank_plugins._internal.deadline import Deadline, OnDeadline
from rerank_plugins._internal.loading_options import EngineName, LoadingOptions, LongDocuments, Precision
from rerank_plugins.calibration import Calibration
from rerank_plugins.errors import (
    ClosedError,
    DeadlineExceededError,
    ExportError,
    InvalidInputError,
    MissingExtraError,
    ModelLoadError,
    ModelNotFoundError,
    OutOfMemoryError,
    OverloadedError,
    RemoteError,
    RemoteRateLimitError,
    RemoteResponseError,
    RemoteTooLargeError,
    RemoteUnauthorizedError,
    RemoteUnavailableError,
    RerankError,
    ScoringError,
    TrainingError,
)
from rerank_plugins.loading import DEFAULT_MODEL, load_reranker
from rerank_plugins.reranker import OnError, Reranker
from rerank_plugins.results import Highlight, RankedResult, sigmoid
from rerank_plugins.scorers.base import DetailedScorer, Pair, Pending, QueuedScorer, Scale, ScoredPair, Scorer
from rerank_plugins.stats import Stats

__all__ = [
    "DEFAULT_MODEL",
    "Calibration",
    "ClosedError",
    "Deadline",
    "DeadlineExceededError",
    "DetailedScorer",
    "EngineName",
    "ExportError",
    "Highlight",
    "InvalidInputError",
    "LoadingOptions",
    "LongDocuments",
    "MissingExtraError",
    "ModelLoadError",
    "ModelNotFoundError",
    "OnDeadline",
    "OnError",
    "OutOfMemoryError",
    "OverloadedError",
    "Pair",
    "Pending",
    "Precision",
    "QueuedScorer",
    "RankedResult",
    "RemoteError",
    "RemoteRateLimitError",
    "RemoteResponseError",
    "RemoteTooLargeError",
    "RemoteUnauthorizedError",
    "RemoteUnavailableError",
    "RerankError",
    "Reranker",
    "Scale",
    "ScoredPair",
    "Scorer",
    "ScoringError",
    "Stats",
    "TrainingError",
    "load_reranker",
    "sigmoid",
]

__version__ = "0.2.0"

# OpenVINO, when it is imported, and nncf report to an analytics host, through this module. Where it cannot be imported
# they go on without it. One that was imported before belongs to somebody else.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]

# Fallbacks and faults are counted (`Reranker.stats`) and logged for whoever listens; nobody's terminal is written to.
logging.getLogger("rerank_plugins.runtime").addHandler(logging.NullHandler())
