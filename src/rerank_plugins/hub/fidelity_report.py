"""What an export said of its fidelity: `openvino/fidelity.json` beside the model, read by the automatic choice."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.hub.cache_dirs import conversion_place

FIDELITY_FILE = Path("openvino") / "fidelity.json"


def read_reports(place: Path) -> dict[str, Any]:
    """The reports of the exports in ``place``, by precision; empty if there are none.

    Raises:
        ModelLoadError: There is a file, and it is damaged.
    """
    path = place / FIDELITY_FILE
    try:
        reports = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as exc:
        raise ModelLoadError(f"{path} cannot be read ({exc}). Delete it, and export the model again.") from exc
    if not isinstance(reports, dict) or not all(isinstance(report, dict) for report in reports.values()):
        raise ModelLoadError(f"{path} holds no reports by precision. Delete it, and export the model again.")
    return reports


def write_reports(place: Path, reports: dict[str, Any]) -> None:
    """Replace the file in one step."""
    path = place / FIDELITY_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(reports, indent=1, ensure_ascii=False) + "\n"
    with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
        file.write(text)
    Path(file.name).chmod(0o644)  # temporary files are their owner's only
    Path(file.name).replace(path)


def report_of(folder: Path, precision: str) -> tuple[Path, dict[str, Any]] | None:
    """Where the newest usable export of ``folder`` in ``precision`` lies, and its report; None without one.

    A report of other weights than ``folder`` has now is passed over, and so is one whose file is gone.
    """
    for place in dict.fromkeys((folder, conversion_place(folder))):
        report = read_reports(place).get(precision)
        if report is None or model_folder.weights_changed(folder, report.get("made_from")):
            continue
        if precision != "int8" or (place / model_folder.OPENVINO_INT8_FILE).is_file():
            return place, report
    return None


def is_default(report: dict[str, Any]) -> bool:
    """Whether the automatic choice may take what ``report`` is about."""
    return bool(report.get("passed") or report.get("accepted"))


def shortfall(report: dict[str, Any]) -> str:
    """In words, what fell below the floor."""
    return "; ".join(map(str, report.get("below_floor") or ["no reason is noted"]))
