"""When a second call exports again, and which reports stay."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from disk_space import set_free_bytes
from rerank_plugins import Pair
from rerank_plugins.backends import choose_engine, load_engine
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.export import export_model
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import ONNX_FILE, OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Edit = Callable[..., None]


pytestmark = pytest.mark.usefixtures("choosing_on_a_new_cpu")


def reports(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / FIDELITY_FILE).read_text(encoding="utf-8"))
    return found


def change_weights(folder: Path) -> None:
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-4, os.SEEK_END)
        file.write(b"\0\0\0\0")


@pytest.mark.slow
def test_other_weights_are_exported_anew_and_the_old_ones_reports_go(exported: Path, edit_report: Edit) -> None:
    """The IR is converted again; an int8 report of weights that are gone makes nothing a default."""
    edit_report(exported, "int8", passed=True)
    before = (exported / OPENVINO_FILE).with_suffix(".bin").read_bytes()
    change_weights(exported)
    result = export_model(exported, "fp32", max_queries=2)
    assert result.report["passed"]
    assert (exported / OPENVINO_FILE).with_suffix(".bin").read_bytes() != before
    assert set(reports(exported)) == {"fp32"}
    assert choose_engine(exported).precision == "bf16"
    with pytest.raises(InvalidInputError, match="rerank-plugins export"):
        load_engine(exported, precision="int8")


@pytest.mark.slow
def test_what_was_made_from_another_onnx_file_is_made_anew(onnx_folder: Path, pairs: list[Pair]) -> None:
    """IR beside an ONNX file follows it, in loading and in the next export; without the file it stays."""
    import onnx
    from onnx import numpy_helper

    before = export_model(onnx_folder, "fp32", max_queries=2)
    expected = CrossEncoderScorer.from_folder(onnx_folder, precision="fp32").score(pairs[:4])
    model = onnx.load(onnx_folder / ONNX_FILE)
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.bias"))
    bias.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(bias) + 1, bias.name))
    onnx.save(model, onnx_folder / ONNX_FILE)
    moved = [logit + 1 for logit in expected]
    assert CrossEncoderScorer.from_folder(onnx_folder, precision="fp32").score(pairs[:4]) == pytest.approx(moved)
    after = export_model(onnx_folder, "fp32", max_queries=2)
    assert after.report["inputs"]["weights"] != before.report["inputs"]["weights"]
    (onnx_folder / ONNX_FILE).unlink()
    assert CrossEncoderScorer.from_folder(onnx_folder, precision="fp32").score(pairs[:4]) == pytest.approx(moved)


@pytest.mark.slow
def test_int8_below_the_floor_does_not_replace_the_default(
    exported: Path, edit_report: Edit, pairs_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With other texts it falls short: the report says so, the file and the choice stay."""
    edit_report(exported, "int8", passed=True)
    before = (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns
    monkeypatch.setattr("rerank_plugins.export.fidelity.MIN_TAU", 2)
    result = export_model(exported, "int8", calibration_data=pairs_file)
    assert not result.is_default
    assert result.report["kept_earlier"]
    assert (result.file.stat().st_mtime_ns, reports(exported)["int8"]["passed"]) == (before, True)
    assert choose_engine(exported).precision == "int8"
    assert export_model(exported, "int8", calibration_data=pairs_file, accept=True).is_default
    assert (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns != before


@pytest.mark.slow
def test_int8_of_other_weights_is_made_anew(exported: Path) -> None:
    """What was stale is the default again after another export."""
    before = (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns
    change_weights(exported)
    assert export_model(exported, "int8", max_queries=10, accept=True).is_default
    assert (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns != before
    assert choose_engine(exported).precision == "int8"


def test_a_copy_of_the_folder_is_as_good(exported: Path, edit_report: Edit) -> None:
    """The same bytes at another time and place: the choice stays, and nothing is made again."""
    edit_report(exported, "int8", passed=True)
    copy = exported.with_name("copy")
    shutil.copytree(exported, copy, copy_function=shutil.copyfile)
    os.utime(copy / "model.safetensors", (1, 1))
    before = (copy / OPENVINO_INT8_FILE).stat().st_mtime_ns
    assert choose_engine(copy).precision == "int8"
    assert export_model(copy, "int8", max_queries=10).is_default
    assert (copy / OPENVINO_INT8_FILE).stat().st_mtime_ns == before


def test_the_same_comparison_is_not_made_again(exported: Path) -> None:
    """With as many queries the report file stays; with others it is written anew."""
    first = export_model(exported, "fp32", max_queries=2)
    before = (exported / FIDELITY_FILE).stat().st_mtime_ns
    assert export_model(exported, "fp32", max_queries=2) == first
    assert (exported / FIDELITY_FILE).stat().st_mtime_ns == before
    assert export_model(exported, "fp32", max_queries=3).report["queries"] == 3


def test_every_precision_has_its_report(exported: Path) -> None:
    """A second precision of the same weights leaves the first one's verdict as it was."""
    before = reports(exported)["int8"]
    export_model(exported, "fp32", max_queries=2)
    assert set(reports(exported)) == {"int8", "fp32"}
    assert reports(exported)["int8"] == before


def test_accepted_stays_accepted_without_being_said_again(exported: Path, edit_report: Edit) -> None:
    """A later call without accept=True takes nothing back."""
    edit_report(exported, "int8", passed=False, accepted=True)
    assert export_model(exported, "int8", max_queries=10).is_default
    assert reports(exported)["int8"]["accepted"] is True


def test_accept_is_not_needed_by_what_passed(exported: Path, edit_report: Edit) -> None:
    """Whether it passed and whether it was accepted are two things."""
    edit_report(exported, "int8", passed=True, accepted=False)
    result = export_model(exported, "int8", max_queries=10)
    assert result.is_default
    assert result.report["accepted"] is False


def test_an_older_recipe_is_made_again(exported: Path, edit_report: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk shows that the export was started, which the same recipe would not."""
    inputs = reports(exported)["int8"]["inputs"]
    edit_report(exported, "int8", inputs={**inputs, "recipe": "an older one"})
    set_free_bytes(monkeypatch, 0)
    with pytest.raises(Exception, match="Free space"):
        export_model(exported, "int8", max_queries=10)


def test_a_snapshots_stale_int8_is_not_loaded_by_its_name(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, edit_report: Edit
) -> None:
    """Of a hub model too: with other weights the cached int8 is neither the default nor loaded by name."""
    from rerank_plugins.hub.cache_dirs import conversion_folder

    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "hub" / "models--OWNER--NAME" / "snapshots" / "0123abc"
    edit_report(exported, "int8", passed=True)
    shutil.copytree(exported, snapshot, ignore=shutil.ignore_patterns("openvino"))
    shutil.copytree(exported / "openvino", conversion_folder(snapshot) / "openvino")
    assert choose_engine(snapshot).precision == "int8"
    change_weights(snapshot)
    assert choose_engine(snapshot).precision == "bf16"
    with pytest.raises((InvalidInputError, ModelLoadError), match="rerank-plugins export"):
        CrossEncoderScorer.from_folder(snapshot, precision="int8")
