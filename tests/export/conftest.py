"""One export of the BERT stand-in, made once; tests that change something work on copies."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins.export import Export, export_model

Edit = Callable[..., None]


@pytest.fixture(scope="session")
def session_export(bert_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """The stand-in with fp32 IR and int8 beside its weights."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    shutil.copytree(bert_folder, folder, ignore=shutil.ignore_patterns("openvino"))
    return export_model(folder, "int8", max_queries=10)


@pytest.fixture
def exported(session_export: Export, tmp_path: Path) -> Path:
    """A copy of that folder."""
    return shutil.copytree(session_export.folder, tmp_path / "exported")


@pytest.fixture
def choosing_on_a_new_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """No accelerator, and bf16 and exact int8 for the choice only: what is computed is what this machine can."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16", lambda: True)
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: True)


@pytest.fixture
def edit_report() -> Edit:
    """``edit_report(folder, precision, **changes)``: what an export with another outcome would have written."""

    def edit(folder: Path, precision: str, **changes: Any) -> None:
        path = folder / "openvino" / "fidelity.json"
        reports = json.loads(path.read_text(encoding="utf-8"))
        reports.setdefault(precision, dict(next(iter(reports.values())))).update(changes)
        path.write_text(json.dumps(reports), encoding="utf-8")

    return edit


@pytest.fixture
def pairs_file(tmp_path: Path) -> Path:
    """Twelve queries with two documents each, as lines of JSON."""
    rows = [
        {"query": f"what is number {query}", "document": f"the number {query} is what {other} is not"}
        for query in range(12)
        for other in range(2)
    ]
    path = tmp_path / "pairs.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return path
