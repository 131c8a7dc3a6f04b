"""The compiled-model cache, on the small stand-in as if that were large."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import openvino
import pytest

from rerank_plugins import Pair
from rerank_plugins.backends.compiled_cache import compile_cached
from rerank_plugins.hub.folder import OPENVINO_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_bert

CONFIG = {"INFERENCE_PRECISION_HINT": "f32"}


@pytest.fixture
def compiled_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache's folder in this test, for which every model is large enough."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("rerank_plugins.backends.compiled_cache.MIN_WEIGHT_BYTES", 0)
    return tmp_path / "cache" / "compiled"


def score(folder: Path, pairs: list[Pair]) -> list[float]:
    scorer = CrossEncoderScorer.from_folder(folder, engine="openvino", precision="fp32")
    try:
        return scorer.score(pairs[:20])
    finally:
        scorer.close()  # engines are shared while somebody has them: the next load must be a load


def test_the_second_load_reads_the_first_ones_entry(fresh_ir: Path, pairs: list[Pair], compiled_folder: Path) -> None:
    """So does the third: one folder with one file, not made again, and the same logits."""
    first = score(fresh_ir, pairs)
    (kept,) = compiled_folder.glob("*/*.blob")
    before = kept.stat().st_mtime_ns
    for _ in range(2):
        assert score(fresh_ir, pairs) == pytest.approx(first, abs=1e-5)
        assert (kept.parent / "verdict.json").read_text(encoding="utf-8") == "true"
    assert [file.stat().st_mtime_ns for file in compiled_folder.glob("*/*.blob")] == [before]


def other_weights(folder: Path, tmp_path: Path, *, as_old: bool) -> Path:
    """Replace the file of weights by another model's, which is as large; returns that model."""
    other = tmp_path / "other"
    other.mkdir()
    write_bert(other, initializer_range=0.1)
    CrossEncoderScorer.from_folder(other, engine="openvino", precision="fp32")  # converts it
    here, there = ((model / OPENVINO_FILE).with_suffix(".bin") for model in (folder, other))
    assert here.stat().st_size == there.stat().st_size
    before = here.stat().st_mtime_ns
    shutil.copyfile(there, here)
    os.utime(here, ns=(0, before if as_old else before + 1))
    return other


def test_weights_that_changed_are_compiled_anew(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, tmp_path: Path
) -> None:
    """Also where only the file of weights is another."""
    first = score(fresh_ir, pairs)
    other = other_weights(fresh_ir, tmp_path, as_old=False)
    before = set(compiled_folder.iterdir())
    found = score(fresh_ir, pairs)
    assert len(set(compiled_folder.iterdir()) - before) == 1
    assert found == pytest.approx(score(other, pairs), abs=1e-5)
    assert found != pytest.approx(first, abs=0.01)


def test_an_entry_that_gives_other_logits_is_not_used(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Here because the weights are others, as large and as old; that is said once, and scores are right."""
    score(fresh_ir, pairs)
    (kept,) = compiled_folder.iterdir()
    other = other_weights(fresh_ir, tmp_path, as_old=True)
    expected = score(other, pairs)
    for _ in range(2):
        assert score(fresh_ir, pairs) == pytest.approx(expected, abs=1e-5)
    assert caplog.text.count("gives other logits") == caplog.text.count(str(kept)) == 1


def test_entries_that_were_not_used_for_long_are_removed(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, tmp_path: Path
) -> None:
    """When the next one is created; an entry that was loaded since stays."""
    models = [shutil.copytree(fresh_ir, tmp_path / name) for name in ("forgotten", "used", "new")]
    kept = []
    for model in models[:2]:
        score(model, pairs)
        kept += set(compiled_folder.iterdir()) - set(kept)
    for place in kept:
        os.utime(place / "verdict.json", (0, 0))
    score(models[1], pairs)
    score(models[2], pairs)
    assert not kept[0].exists()
    assert kept[1].exists()
    assert len(list(compiled_folder.iterdir())) == 2


def test_other_users_can_read_an_entry(fresh_ir: Path, pairs: list[Pair], compiled_folder: Path) -> None:
    """An image is built by one user and run by another; OpenVINO ends a process that may not read its cache."""
    score(fresh_ir, pairs)
    (place,) = compiled_folder.iterdir()
    assert place.stat().st_mode & 0o777 == 0o755
    assert {file.stat().st_mode & 0o777 for file in place.iterdir()} == {0o644}


@pytest.mark.parametrize("text", ["", "[1, 2]", "[", '{"a": 1}', "null", "false"])
def test_a_verdict_that_cannot_be_read_costs_time_only(
    fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, text: str
) -> None:
    """The model is compiled from its own file."""
    first = score(fresh_ir, pairs)
    (verdict,) = compiled_folder.glob("*/verdict.json")
    verdict.write_text(text, encoding="utf-8")
    assert score(fresh_ir, pairs) == pytest.approx(first, abs=1e-5)


def test_other_settings_have_entries_of_their_own(fresh_ir: Path, compiled_folder: Path) -> None:
    """OpenVINO's own names of entries do not depend on some of them."""
    for config in (CONFIG, CONFIG, {**CONFIG, "LP_TRANSFORMS_MODE": False}, {**CONFIG, "INFERENCE_NUM_THREADS": 1}):
        assert compile_cached(openvino.Core(), fresh_ir / OPENVINO_FILE, config) is not None
    assert len(list(compiled_folder.iterdir())) == 3


@pytest.mark.parametrize("length", [0, 10, 500, 5000])
def test_a_damaged_entry_is_made_again(fresh_ir: Path, pairs: list[Pair], compiled_folder: Path, length: int) -> None:
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
    assert compile_cached(openvino.Core(), fresh_ir / OPENVINO_FILE, CONFIG) is None
    assert len(score(fresh_ir, pairs)) == 20


def test_a_small_model_has_no_entry(fresh_ir: Path, pairs: list[Pair], cache_of_our_own: Path) -> None:
    """The stand-in's 130 kB compile in no time."""
    before = sorted(cache_of_our_own.rglob("compiled/*"))
    score(fresh_ir, pairs)
    assert sorted(cache_of_our_own.rglob("compiled/*")) == before == []
