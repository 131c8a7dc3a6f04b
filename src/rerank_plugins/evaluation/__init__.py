"""Evaluation and calibration of rerankers on a collection in BEIR layout. `evaluate` and `calibrate` need ``eval``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, QueryChange, Ranking, Reranked

if TYPE_CHECKING:
    from rerank_plugins.evaluation.calibration.run import CalibrationResult, calibrate
    from rerank_plugins.evaluation.run import evaluate

__all__ = [
    "METRICS",
    "CalibrationResult",
    "Evaluation",
    "Interval",
    "QueryChange",
    "Ranking",
    "Reranked",
    "calibrate",
    "evaluate",
]


def __getattr__(name: str) -> Any:
    # These import scipy and ir-measures, which reading or plotting results does not need.
    if name == "evaluate":
        from rerank_plugins.evaluation.run import evaluate

        return evaluate
    if name in ("CalibrationResult", "calibrate"):
        from rerank_plugins.evaluation.calibration import run

        return getattr(run, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
