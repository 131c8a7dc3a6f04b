"""The curve of a training: one JSON line for a loss, and one for an evaluation of the development queries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rerank_plugins.training.results import CurvePoint


class CurveFile:
    """``log.jsonl``; what stands after a checkpoint is dropped when a training goes on from it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def add(self, step: int, seconds: float, **values: float) -> None:
        """Write a line: ``loss``, or ``development``; ``seconds`` of training so far."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values, "seconds": round(seconds, 3)}) + "\n")

    def cut(self, step: int) -> float:
        """Drop the lines after ``step``; the seconds of the last one that stays, 0 without any."""
        kept = [line for line in self._lines() if line["step"] <= step]
        self.path.write_text("".join(json.dumps(line) + "\n" for line in kept), encoding="utf-8")
        return float(kept[-1]["seconds"]) if kept else 0.0

    def points(self) -> list[CurvePoint]:
        """Every evaluation, with the loss that was noted last before it."""
        loss: float | None = None
        found = []
        for line in self._lines():
            loss = line.get("loss", loss)
            if "development" in line:
                found.append(CurvePoint(line["step"], loss, line["development"]))
        return found

    def seconds(self) -> float:
        """Of training, up to the last line."""
        lines = self._lines()
        return float(lines[-1]["seconds"]) if lines else 0.0

    def _lines(self) -> list[dict[str, Any]]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        # Without the half line that a kill leaves at the end.
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
