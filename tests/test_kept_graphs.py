"""What is kept of a compiled graph, on the small stand-in, as if that were large."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import openvino
import pytest
from stand_in_models import write_bert

from rerank_plugins import Pair
from rerank_plugins.cross_encoder import CrossEncoderScorer
from rerank_plugins.engines.kept_graphs import compile_kept
from rerank_plugins.engines.model_folder import OPENVINO_FILE

CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture
def compiled_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where graphs are kept in this test; every model is large enough."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rerank_plugins.engines.kept_graphs.LARGE", 0)
    return tmp_path / "cache" / "compiled"


def score(folder: Path, pairs: list[Pair]) -> list[float]:
    return CrossEncoderScorer.from_folder(folder, engine="openvino", precision="fp32").score(pairs[:20])


def test_the_second_load_reads_what_the_first_kept(fresh_ir: Path, pairs: list[Pair], compiled_folder: Path) -> None:
    """One folder with one file, not made again, and the same logits."""
    first = score(fresh_ir, pairs)
    (kept,) = compiled_folder.glob("*/*.blob")
    before = kept.stat().st_mtime_ns
    assert score(fresh_ir, pairs) == pytest.approx(first, abs=1e-5)
    assert [file.stat().st_mtime_ns for file in compiled_folder.glob("*/*.blob")] == [before]


def weights(folder: Path) -> Path:
    return (folder / OPENVINO_FILE).with_suffix(".bin")


def test_weights_that_changed_are_compiled_anew(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, tmp_path: Path
) -> None:
    """Also where only the file of weights is another, as large and as old; what was kept of the old is removed."""
    first = score(fresh_ir, pairs)
    (old,) = compiled_folder.iterdir()
    other = tmp_path / "other"
    other.mkdir()
    write_bert(other, initializer_range=0.1)
    expected = score(other, pairs)
    here, there = weights(fresh_ir), weights(other)
    assert here.stat().st_size == there.stat().st_size
    os.utime(there, ns=(0, here.stat().st_mtime_ns))
    there.replace(here)
    assert score(fresh_ir, pairs) == pytest.approx(expected, abs=1e-5)
    assert expected != pytest.approx(first, abs=0.01)
    assert not old.exists()


def test_what_belongs_to_a_model_that_is_gone_is_removed(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, tmp_path: Path
) -> None:
    """When the next one is kept."""
    gone = shutil.copytree(fresh_ir, tmp_path / "gone")
    score(gone, pairs)
    (old,) = compiled_folder.iterdir()
    shutil.rmtree(gone)
    score(fresh_ir, pairs)
    (kept,) = compiled_folder.iterdir()
    assert kept != old


def test_other_settings_are_kept_apart(fresh_ir: Path, compiled_folder: Path) -> None:
    """OpenVINO's own names of what it keeps leave some of them out."""
    for config in (CONFIG, CONFIG, {**CONFIG, "LP_TRANSFORMS_MODE": False}, {**CONFIG, "INFERENCE_NUM_THREADS": 1}):
        assert compile_kept(openvino.Core(), fresh_ir / OPENVINO_FILE, config) is not None
    assert len(list(compiled_folder.iterdir())) == 3


@pytest.mark.parametrize("length", [0, 10, 500, 5000])
def test_a_damaged_one_is_made_again(fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, length: int) -> None:
    """Whatever of it is left, logits are the model's."""
    first = score(fresh_ir, pairs)
    (kept,) = compiled_folder.glob("*/*.blob")
    kept.chmod(0o600)
    os.truncate(kept, length)
    assert score(fresh_ir, pairs) == pytest.approx(first, abs=1e-5)


def test_a_cache_that_cannot_be_written_to_costs_time_only(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path
) -> None:
    """A file stands where the folder should be."""
    compiled_folder.parent.mkdir()
    compiled_folder.touch()
    assert compile_kept(openvino.Core(), fresh_ir / OPENVINO_FILE, CONFIG) is None
    assert len(score(fresh_ir, pairs)) == 20


def test_a_small_model_is_not_kept(fresh_ir: Path, pairs: list[Pair], cache_of_our_own: Path) -> None:
    """The stand-in's 130 kB compile in no time."""
    before = sorted(cache_of_our_own.rglob("compiled/*"))
    score(fresh_ir, pairs)
    assert sorted(cache_of_our_own.rglob("compiled/*")) == before == []
