"""What the automatic choice makes of an export's report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from rerank_plugins.backends import choose_engine, load_engine
from rerank_plugins.errors import InvalidInputError, ModelLoadError
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Edit = Callable[..., None]


pytestmark = pytest.mark.usefixtures("choosing_on_a_new_cpu")


def test_int8_that_passed_is_the_default(exported: Path, edit_report: Edit) -> None:
    """On a CPU precision="auto" takes it, and says why."""
    edit_report(exported, "int8", passed=True, accepted=False)
    choice = choose_engine(exported)
    assert choice[:3] == ("openvino", "int8", "cpu")
    assert "passed its fidelity report" in choice.why


def test_int8_is_not_the_default_where_its_products_are_clipped(
    exported: Path, edit_report: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is exact is as fast there; the reason says so. By its name it loads."""
    edit_report(exported, "int8", passed=True)
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: False)
    choice = choose_engine(exported)
    assert choice.precision == "bf16"
    assert "clips int8 products" in choice.why
    assert load_engine(exported, precision="int8").precision == "int8"


def test_int8_alone_is_taken_where_its_products_are_clipped(
    exported: Path, edit_report: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the reason says what it is computed in."""
    edit_report(exported, "int8", passed=True)
    for name in (exported / "model.safetensors", exported / OPENVINO_FILE):
        name.unlink()
    monkeypatch.setattr("rerank_plugins.backends.cpu.int8_is_exact", lambda: False)
    choice = choose_engine(exported)
    assert choice.precision == "int8"
    assert "computed in fp32" in choice.why


def test_int8_below_the_floor_is_not_the_default(exported: Path, edit_report: Edit) -> None:
    """It stays loadable by its name."""
    edit_report(exported, "int8", passed=False, accepted=False, below_floor=["too different"])
    assert choose_engine(exported).precision == "bf16"
    assert load_engine(exported, precision="int8").precision == "int8"


def test_int8_that_was_accepted_is_the_default(exported: Path, edit_report: Edit) -> None:
    """Somebody decided."""
    edit_report(exported, "int8", passed=False, accepted=True)
    choice = choose_engine(exported)
    assert choice.precision == "int8"
    assert "accepted" in choice.why


def test_int8_without_a_report_is_not_the_default(exported: Path) -> None:
    """A file from elsewhere, beside weights that can be used, is taken by its name only."""
    (exported / FIDELITY_FILE).unlink()
    assert choose_engine(exported).precision == "bf16"


def test_other_weights_make_the_export_stale(exported: Path, edit_report: Edit) -> None:
    """Auto goes back to what the new weights give, and int8 by name says to export again."""
    edit_report(exported, "int8", passed=True)
    with (exported / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    assert choose_engine(exported).precision == "bf16"
    with pytest.raises(ModelLoadError, match=r"other weights .* Make it again: rerank-plugins export"):
        load_engine(exported, precision="int8")


def test_bf16_below_the_floor_makes_auto_exact(exported: Path, edit_report: Edit) -> None:
    """fp32 instead, with the reason."""
    edit_report(exported, "int8", passed=False)
    edit_report(exported, "bf16", passed=False, accepted=False, below_floor=["mean Kendall's tau 0.5"])
    choice = choose_engine(exported)
    assert choice.precision == "fp32"
    assert "mean Kendall's tau 0.5" in choice.why


def test_fp32_below_the_floor_is_not_the_default(
    exported: Path, edit_report: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where auto would come to it, the error says how far it fell and what computes the model right."""
    monkeypatch.setattr("rerank_plugins.backends.cpu.has_bf16", lambda: False)
    edit_report(exported, "int8", passed=False, accepted=False)
    edit_report(exported, "fp32", passed=False, accepted=False, below_floor=["a logit differs by 0.5"])
    with pytest.raises(ModelLoadError, match=r"a logit differs by 0\.5.*Use engine='torch'"):
        choose_engine(exported)
    assert load_engine(exported, precision="fp32", engine="openvino").precision == "fp32"


def test_a_folder_with_failed_int8_only_is_refused_by_auto(exported: Path, edit_report: Edit) -> None:
    """The error says how far it fell and how to load it all the same."""
    edit_report(exported, "int8", passed=False, accepted=False, below_floor=["mean Kendall's tau 0.5"])
    for name in (exported / "model.safetensors", exported / OPENVINO_FILE):
        name.unlink()
    with pytest.raises(ModelLoadError, match=r"Kendall's tau 0\.5.*Use precision='int8'"):
        CrossEncoderScorer.from_folder(exported)
    assert CrossEncoderScorer.from_folder(exported, precision="int8").engine.precision == "int8"


@pytest.mark.parametrize("content", ["{", "[]", '{"int8": 3}'])
def test_a_damaged_report_is_named(exported: Path, content: str) -> None:
    """Not passed over in silence: it decides what is loaded."""
    (exported / FIDELITY_FILE).write_text(content, encoding="utf-8")
    with pytest.raises(ModelLoadError, match="Delete it, and export the model again"):
        choose_engine(exported)


def test_int8_by_name_without_a_file_says_how_to_make_one(fresh_bert: Path) -> None:
    """The error is the command."""
    assert not (fresh_bert / OPENVINO_INT8_FILE).exists()
    with pytest.raises(InvalidInputError, match=r"rerank-plugins export .* --precision int8"):
        load_engine(fresh_bert, precision="int8")
