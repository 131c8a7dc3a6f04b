"""Train a reranker on a judged collection in BEIR layout, alone or from a teacher.

`train_reranker` needs the extra ``train``; the values it gives do not.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.training.results import Change, CurvePoint, Training, TrainingData

if TYPE_CHECKING:
    from rerank_plugins.training.job import train_reranker as train_reranker

_EVALUATION = ("ir_measures", "scipy", "sklearn", "model2vec")

__all__ = ["Change", "CurvePoint", "Training", "TrainingData", "train_reranker"]


def __getattr__(name: str) -> Any:
    # It brings torch and scipy, which whoever reads results need not have.
    if name == "train_reranker":
        _check_extra()
        from rerank_plugins.training.job import train_reranker

        return train_reranker
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _check_extra() -> None:
    # All at once, and before hours of training: the last of them are needed after it.
    for module in ("torch", "transformers", "sentence_transformers", "datasets", "accelerate", "nncf", *_EVALUATION):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("train", "Training", module)
