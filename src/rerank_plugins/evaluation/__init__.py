"""Does reranking help, on whose data, and where to cut: measured on a collection in BEIR layout.

`evaluate` and `calibrate` need the extra ``eval``; the values it gives do not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_plugins.evaluation.results import METRICS, Evaluation, Interval, QueryChange, Ranking, Reranked

if TYPE_CHECKING:
    from rerank_plugins.evaluation.calibration.run import CalibrationResult as CalibrationResult
    from rerank_plugins.evaluation.calibration.run import calibrate as calibrate
    from rerank_plugins.evaluation.run import evaluate as evaluate

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
    # It brings scipy and ir-measures, which whoever reads or draws results need not have.
    if name == "evaluate":
        from rerank_plugins.evaluation.run import evaluate

        return evaluate
    if name in ("CalibrationResult", "calibrate"):
        from rerank_plugins.evaluation.calibration import run as calibration_job

        return getattr(calibration_job, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
