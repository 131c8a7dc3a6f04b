"""`openvino/fidelity.json`: written whole, read with care; and what doctor shows of it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from typer.testing import CliRunner

from rerank_plugins import Pair
from rerank_plugins.backends import choose_engine
from rerank_plugins.backends.cpu import has_bf16
from rerank_plugins.cli import app
from rerank_plugins.errors import ModelLoadError
from rerank_plugins.hub.cache_dirs import conversion_folder
from rerank_plugins.hub.fidelity_report import (
    FIDELITY_FILE,
    describe_shortfall,
    find_report,
    is_accepted,
    read_reports,
    write_reports,
)
from rerank_plugins.hub.folder import OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Edit = Callable[..., None]

BF16 = has_bf16()


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    """Any text in it; beside the file nothing is left, and everybody may read it."""
    given = {"int8": {"passed": False, "texts": "问题.jsonl", "below_floor": ['a "quoted" one\n', "\u2028"]}}
    write_reports(tmp_path, {"int8": {"passed": True}})
    write_reports(tmp_path, given)
    assert read_reports(tmp_path) == given
    assert [file.name for file in (tmp_path / "openvino").iterdir()] == [FIDELITY_FILE.name]
    assert (tmp_path / FIDELITY_FILE).stat().st_mode & 0o777 == 0o644


def test_a_folder_without_a_report_has_none(tmp_path: Path) -> None:
    """Also where the folder, or its openvino folder, is not there or is a file."""
    (tmp_path / "openvino").write_text("a file", encoding="utf-8")
    for place in (tmp_path, tmp_path / "openvino", tmp_path / "nowhere"):
        assert read_reports(place) == {}


@pytest.mark.parametrize("content", [b"\xff\xfe{", b"", b"null", b'{"int8": null}', b'{"int8": [1]}', b"[" * 100_000])
def test_a_file_that_is_no_report_is_an_error_with_advice(tmp_path: Path, content: bytes) -> None:
    """Other encodings, nothing at all, other JSON: it names the file and says what to do."""
    (tmp_path / "openvino").mkdir()
    (tmp_path / FIDELITY_FILE).write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"fidelity\.json .* Delete it, and export the model again"):
        read_reports(tmp_path)


@pytest.mark.parametrize(
    ("report", "expected"),
    [
        ({"passed": True, "accepted": False}, True),
        ({"passed": False, "accepted": True}, True),
        ({"passed": False, "accepted": False}, False),
        ({}, False),
    ],
)
def test_passed_or_accepted_is_a_default(report: dict[str, Any], *, expected: bool) -> None:
    """Either will do; a report that says neither makes nothing a default."""
    assert is_accepted(report) is expected


def test_every_shortfall_is_said() -> None:
    """One after the other; a report that names none says so."""
    assert describe_shortfall({"below_floor": ["tau 0.5", "overlap 0.2"]}) == "tau 0.5; overlap 0.2"
    assert describe_shortfall({"below_floor": []}) == describe_shortfall({}) == "no reason is noted"


def test_a_report_without_its_file_is_no_export(exported: Path, edit_report: Edit) -> None:
    """An int8 report counts where the int8 file is; bf16's is about a file that is converted when needed."""
    edit_report(exported, "bf16", passed=True)
    (exported / OPENVINO_INT8_FILE).unlink()
    assert find_report(exported, "int8") is None
    assert find_report(exported, "bf16") is not None
    assert choose_engine(exported, engine="openvino").precision != "int8"


def test_a_damaged_report_in_the_cache_is_named(
    fresh_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a hub model: the path in the message is the one to delete."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "cache"))
    snapshot = tmp_path / "models--OWNER--NAME" / "snapshots" / "0123abc"
    shutil.copytree(fresh_bert, snapshot)
    damaged = conversion_folder(snapshot) / FIDELITY_FILE
    damaged.parent.mkdir(parents=True)
    damaged.write_text("{", encoding="utf-8")
    with pytest.raises(ModelLoadError) as caught:
        choose_engine(snapshot, engine="openvino")
    assert str(damaged) in str(caught.value)


@pytest.mark.skipif(not BF16, reason="no bf16 in this processor")
def test_the_rest_of_int8_is_computed_as_it_was_compared(exported: Path, edit_report: Edit, pairs: list[Pair]) -> None:
    """In bf16 where the report says so; in fp32 where it says that, or where there is no report."""

    def logits() -> list[float]:
        return CrossEncoderScorer.from_folder(exported, precision="int8").score(pairs[:40])

    edit_report(exported, "int8", rest_precision="bf16")
    bf16 = logits()
    edit_report(exported, "int8", rest_precision="fp32")
    fp32 = logits()
    (exported / FIDELITY_FILE).unlink()
    assert logits() == fp32
    assert bf16 != fp32


@pytest.fixture
def models_here(exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The exported model in ``models/`` under the working directory, and no hub to ask."""
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    return shutil.move(exported, tmp_path / "models" / "mine")


def doctors_line() -> str:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    (line,) = (line for line in result.stdout.splitlines() if "mine (models/)" in line)
    return line


@pytest.mark.usefixtures("choosing_on_a_new_cpu")
def test_doctor_gives_the_report_as_the_reason(models_here: Path, edit_report: Edit) -> None:
    """For an int8 that passed."""
    edit_report(models_here, "int8", passed=True)
    assert "int8 on cpu" in doctors_line()
    assert "passed its fidelity report" in doctors_line()


def test_doctor_says_what_a_failed_report_fell_short_of(models_here: Path, edit_report: Edit) -> None:
    """For a folder with nothing else, which auto refuses; and doctor itself does not end there."""
    edit_report(models_here, "int8", passed=False, accepted=False, below_floor=["mean Kendall's tau 0.5"])
    for name in ("model.safetensors", OPENVINO_FILE):
        (models_here / name).unlink()
    assert "mean Kendall's tau 0.5" in doctors_line()
    assert "precision='int8'" in doctors_line()


def test_doctor_survives_a_damaged_report(models_here: Path) -> None:
    """Its line is the error and the advice."""
    (models_here / FIDELITY_FILE).write_text(json.dumps([]), encoding="utf-8")
    assert "Delete it, and export the model again" in doctors_line()


def test_a_report_reads_as_json_by_anything(exported: Path) -> None:
    """No NaN, no number of numpy's."""

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    assert json.loads((exported / FIDELITY_FILE).read_text(encoding="utf-8"), parse_constant=refuse)
