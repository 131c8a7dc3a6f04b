"""An evaluation as one HTML file."""

from __future__ import annotations

from rerank_plugins.evaluation.report.page import write_report

__all__ = ["write_report"]
