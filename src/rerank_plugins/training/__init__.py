"""Train a reranker on a judged collection in BEIR layout, alone or from a teacher.

`train_reranker` needs the extra ``train``; the other names do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_plugins._internal.extras import check_installed
from rerank_plugins.training.config import TrainingConfig
from rerank_plugins.training.results import Change, CurvePoint, Training, TrainingData

if TYPE_CHECKING:
    from rerank_plugins.training.run import train_reranker as train_reranker

__all__ = ["Change", "CurvePoint", "Training", "TrainingConfig", "TrainingData", "train_reranker"]

_MODULES = (
    *("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "nncf"),
    *("ir_measures", "scipy", "sklearn", "model2vec", "jinja2"),
)


def __getattr__(name: str) -> Any:
    # It imports torch and scipy, which readers of results need not have.
    if name == "train_reranker":
        # All are checked at once: the last of them are needed after hours of training.
        check_installed("train", "Training", *_MODULES)
        from rerank_plugins.training.run import train_reranker

        return train_reranker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
