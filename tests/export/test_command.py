"""`rerank-plugins export`: what it prints and how it ends."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rerank_plugins.cli import app
from rerank_plugins.errors import ModelNotFoundError
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import OPENVINO_INT8_FILE

Edit = Callable[..., None]


@pytest.fixture
def failed(exported: Path, edit_report: Edit) -> Path:
    """The folder with the report of an export that fell below the floor."""
    edit_report(exported, "int8", passed=False, accepted=False, below_floor=["mean Kendall's tau 0.5"])
    return exported


def test_the_report_is_a_table(exported: Path, edit_report: Edit) -> None:
    """With the file, what was compared, the floor and where the whole report is; the end is 0."""
    edit_report(exported, "int8", passed=True)
    result = CliRunner().invoke(app, ["export", str(exported), "--max-queries", "10"])
    assert result.exit_code == 0, result.output
    for part in (OPENVINO_INT8_FILE.name, "int8 beside openvino fp32", "Kendall's tau per query", FIDELITY_FILE.name):
        assert part in result.stdout
    assert "10 queries, 200 pairs (built-in, english)" in result.stdout


@pytest.mark.parametrize("exact", [True, False])
def test_a_processor_that_clips_int8_is_told_what_it_gains(
    exported: Path, edit_report: Edit, monkeypatch: pytest.MonkeyPatch, *, exact: bool
) -> None:
    """Nothing there, and what auto takes instead; elsewhere nothing is said."""
    edit_report(exported, "int8", passed=True)
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: exact)
    result = CliRunner().invoke(app, ["export", str(exported), "--max-queries", "10"])
    assert result.exit_code == 0, result.output
    assert ("clips int8 products" in result.stderr) is not exact


def test_json_is_one_document(exported: Path, edit_report: Edit) -> None:
    """The report, and the file it is about."""
    edit_report(exported, "int8", passed=True)
    result = CliRunner().invoke(app, ["export", str(exported), "--max-queries", "10", "--json"])
    printed = json.loads(result.stdout)
    assert printed["file"] == str(exported / OPENVINO_INT8_FILE)
    assert printed["passed"] is True


def test_below_the_floor_it_ends_with_1(failed: Path) -> None:
    """It says what fell short and what can be done."""
    result = CliRunner().invoke(app, ["export", str(failed), "--max-queries", "10"])
    assert result.exit_code == 1
    assert "Below the floor of fidelity: mean Kendall's tau 0.5" in result.stderr
    assert "--accept" in result.stderr


def test_accept_overrides_the_floor(failed: Path) -> None:
    """The end is 0, and stays so for the next call without it."""
    assert CliRunner().invoke(app, ["export", str(failed), "--max-queries", "10", "--accept"]).exit_code == 0
    assert CliRunner().invoke(app, ["export", str(failed), "--max-queries", "10"]).exit_code == 0


@pytest.mark.slow
def test_a_real_export_below_the_floor_is_not_the_default(bert_folder: Path, tmp_path: Path, pairs_file: Path) -> None:
    """A model with one activation hundreds of times the others loses its order in int8, and is told so."""
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(bert_folder, tmp_path / "outlier", ignore=shutil.ignore_patterns("openvino"))
    weights = load_file(folder / "model.safetensors")
    weights["bert.embeddings.LayerNorm.bias"][3] = 300
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    result = CliRunner().invoke(app, ["export", str(folder), "--calibration-data", str(pairs_file), "--json"])
    printed = json.loads(result.stdout)
    assert (result.exit_code, printed["passed"], printed["accepted"]) == (1, False, False)
    assert printed["below_floor"]


def test_it_takes_the_options_that_say_where_a_model_is(tmp_path: Path) -> None:
    """As `load_reranker` does: without the hub and with another cache the model is not found."""
    arguments = ["export", "owner/name", "--local-files-only", "--cache-folder", str(tmp_path), "--revision", "v1"]
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, ModelNotFoundError)
    assert str(tmp_path) in str(result.exception)
