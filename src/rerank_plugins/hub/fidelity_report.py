"""``openvino/fidelity.json``: how close an export's scores are to the model's, read to choose a precision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_plugins._internal.files import write_atomically
from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.config import read_json
from rerank_plugins.hub.folder import OPENVINO_INT8_FILE
from rerank_plugins.hub.weights import weights_changed

FIDELITY_FILE = Path("openvino") / "fidelity.json"

_EXPORT_AGAIN = "Delete it, and export the model again."


def read_reports(place: Path) -> dict[str, Any]:
    """The reports of the exports in ``place``, by precision; `ModelLoadError` if the file is damaged."""
    path = place / FIDELITY_FILE
    reports = read_json(path, _EXPORT_AGAIN) or {}
    if not all(isinstance(report, dict) for report in reports.values()):
        raise ModelLoadError(f"{path} holds no reports by precision. {_EXPORT_AGAIN}")
    return reports


def write_reports(place: Path, reports: dict[str, Any]) -> None:
    """Replace the reports in ``place``."""
    path = place / FIDELITY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(reports, indent=1, ensure_ascii=False) + "\n")


def find_report(folder: Path, precision: str) -> tuple[Path, dict[str, Any]] | None:
    """The folder of the export of ``folder`` in ``precision``, and its report; None without one.

    Reports of other weights than ``folder`` has now are ignored, and so are reports whose int8 file is missing.
    """
    for place in dict.fromkeys((folder, conversion_folder(folder))):
        report = read_reports(place).get(precision)
        if report is None or weights_changed(folder, report.get("made_from")):
            continue
        if precision != "int8" or (place / OPENVINO_INT8_FILE).is_file():
            return place, report
    return None


def is_accepted(report: dict[str, Any]) -> bool:
    """Whether ``precision="auto"`` may choose the export: it passed, or was exported with ``--accept``."""
    return bool(report.get("passed") or report.get("accepted"))


def describe_shortfall(report: dict[str, Any]) -> str:
    """What fell below the floor, in words."""
    return "; ".join(map(str, report.get("below_floor") or ["no reason is noted"]))
