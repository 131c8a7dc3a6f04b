"""Exports that end early, wait for each other, or have little disk space."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from disk_space import set_free_bytes
from rerank_plugins import Pair, load_reranker
from rerank_plugins.backends import choose_engine
from rerank_plugins.errors import ExportError, InvalidInputError, ModelLoadError
from rerank_plugins.export import export_model
from rerank_plugins.hub.cache_dirs import lock_path
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import OPENVINO_FILE, OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

Edit = Callable[..., None]


class KilledError(BaseException):
    """The end of a process, as far as the files are concerned."""


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """``killed_at(number)``: from then on the process ends before it puts its file ``number`` (from 1) in place."""

    def arm(number: int) -> None:
        replace, done = Path.replace, [0]

        def count(self: Path, target: Any) -> Path:
            done[0] += 1
            if done[0] == number:
                monkeypatch.setattr(Path, "replace", replace)
                raise KilledError
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", count)

    return arm


@pytest.mark.parametrize(
    "number", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow), 3]
)
def test_an_incomplete_publication_is_no_export(
    exported: Path, tmp_path: Path, pairs: list[Pair], killed_at: Callable[[int], None], number: int
) -> None:
    """Report, weights, graph: where one is missing nothing is loaded, and the next export completes the folder."""
    new = tmp_path / "new"
    export_model(exported, "fp32", output_folder=new, max_queries=2)
    killed_at(number)
    with pytest.raises(KilledError):
        export_model(exported, "fp32", output_folder=new, max_queries=3)
    with pytest.raises(ModelLoadError, match=r"weights .* missing"):
        load_reranker(new)
    assert export_model(exported, "fp32", output_folder=new, max_queries=3).report["queries"] == 3
    expected = CrossEncoderScorer.from_folder(exported, engine="openvino", precision="fp32").score(pairs[:4])
    assert load_reranker(new, precision="fp32").scorer.score(pairs[:4]) == expected


@pytest.mark.slow
@pytest.mark.usefixtures("choosing_on_a_new_cpu")
@pytest.mark.parametrize("number", [2, 3, 4])
def test_an_incomplete_int8_is_no_default(
    exported: Path, pairs_file: Path, killed_at: Callable[[int], None], number: int
) -> None:
    """While it is not complete, auto takes what is exact, and int8 by name says how to make it."""
    killed_at(number)
    with pytest.raises(KilledError):
        export_model(exported, "int8", calibration_data=pairs_file, accept=True)
    assert choose_engine(exported, engine="openvino").precision in {"fp32", "bf16"}
    with pytest.raises(InvalidInputError, match="rerank-plugins export"):
        CrossEncoderScorer.from_folder(exported, precision="int8")
    assert export_model(exported, "int8", calibration_data=pairs_file, accept=True).is_default
    assert choose_engine(exported, engine="openvino").precision == "int8"


def test_what_a_killed_export_left_is_neither_read_nor_kept(exported: Path) -> None:
    """Nobody looks into its scratch folder, and an export a day later removes it.

    A younger one may be at work, on another machine with the same disk.
    """
    left, at_work = (exported / "openvino" / f".exporting-{name}" / "openvino" for name in ("left", "at-work"))
    left.mkdir(parents=True)
    at_work.mkdir(parents=True)
    os.utime(left.parent, (1, 1))
    shutil.move(exported / OPENVINO_INT8_FILE, at_work / OPENVINO_INT8_FILE.name)
    assert choose_engine(exported, engine="openvino").precision != "int8"
    export_model(exported, "fp32", max_queries=2)
    assert list(exported.rglob(".exporting-*")) == [at_work.parent]


def test_a_disk_that_fills_up_is_an_export_error(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The system's own reason, and what to do; what was written is gone."""
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if target.suffix == ".bin":
            raise OSError(errno.ENOSPC, "No space left on device")
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(ExportError, match=r"No space left on device.*Free space if the disk is full"):
        export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2)
    assert not list((tmp_path / "new").rglob("*.xml"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGINT for another process")
def test_an_export_that_is_interrupted_cleans_up(fresh_bert: Path) -> None:
    """Control-C in the middle: no scratch, no int8, no report."""
    process = subprocess.Popen(
        [sys.executable, "-m", "rerank_plugins.cli", "export", str(fresh_bert)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    place = fresh_bert / "openvino"
    until = time.monotonic() + 60
    while not list(place.glob(".exporting-*/*.json")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert not list(place.glob(".exporting-*"))
    assert not (fresh_bert / OPENVINO_INT8_FILE).exists()
    assert not (fresh_bert / FIDELITY_FILE).exists()


def test_an_export_waits_for_another(exported: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While another holds the folder it says that it waits, and goes on when the folder is free."""
    lock = FileLock(lock_path(exported / "export"), thread_local=False)  # the handler runs in the other thread
    lock.acquire()

    class Releases(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if "waiting" in record.getMessage():
                lock.release()

    handler = Releases()
    logging.getLogger("rerank_plugins").addHandler(handler)
    try:
        with ThreadPoolExecutor(1) as thread:
            assert thread.submit(export_model, exported, "fp32", max_queries=2).result(timeout=60).is_default
    finally:
        logging.getLogger("rerank_plugins").removeHandler(handler)
        lock.release(force=True)
    assert "Another process is exporting" in caplog.text


@pytest.mark.slow
def test_threads_that_meet_work_once(fresh_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of two in one process one converts, and both have its report."""
    with caplog.at_level(logging.WARNING), ThreadPoolExecutor(2) as threads:
        both = [threads.submit(export_model, fresh_bert, "fp32", max_queries=2) for _ in range(2)]
        first, second = (future.result(timeout=120) for future in both)
    assert first == second
    assert sum("Converted in" in record.getMessage() for record in caplog.records) == 1
    assert "Another process is exporting" in caplog.text


def test_a_folder_that_cannot_be_locked_is_an_export_error(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two exports at once would spoil each other; the error names the variable that helps."""
    (tmp_path / "file").touch()
    before = sorted(exported.rglob("*"))
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(ExportError, match=r"cannot be locked .* Set RERANK_PLUGINS_CACHE"):
        export_model(exported, "fp32", max_queries=2)
    assert sorted(exported.rglob("*")) == before


@pytest.mark.parametrize("missing", [1, 0])
def test_a_copy_needs_as_many_bytes_as_its_weights(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: int
) -> None:
    """Of fp32 to another folder; with a byte less it does not start."""
    size = (exported / OPENVINO_FILE).with_suffix(".bin").stat().st_size
    set_free_bytes(monkeypatch, size - missing)
    if missing:
        with pytest.raises(ExportError, match="Free space, or name another output_folder"):
            export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2)
        assert not list(tmp_path.glob("new/**/*.xml"))
        assert not list(tmp_path.glob("new/**/.exporting-*"))
    else:
        assert export_model(exported, "fp32", output_folder=tmp_path / "new", max_queries=2).file.is_file()


def test_a_report_about_an_existing_file_needs_no_space(exported: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """fp32 in place, where it was converted before."""
    set_free_bytes(monkeypatch, 0)
    assert export_model(exported, "fp32", max_queries=2).is_default
    with pytest.raises(ExportError, match="Free space"):
        export_model(exported, "int8", max_queries=2)


def test_a_first_export_counts_the_conversion_too(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch weights become IR and int8: space for one of them is not enough, and nothing is written."""
    size = (fresh_bert / "model.safetensors").stat().st_size
    set_free_bytes(monkeypatch, size + size // 2)
    with pytest.raises(ExportError, match="Free space"):
        export_model(fresh_bert, "int8", max_queries=2)
    assert not list(fresh_bert.rglob("*.xml"))


COMMAND = [sys.executable, "-m", "rerank_plugins.cli", "export"]


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    )


@pytest.mark.slow
def test_a_killed_export_leaves_nothing_that_would_be_read(exported: Path, pairs_file: Path) -> None:
    """The export before it is still what is loaded; the next one is complete, and a day later removes what was left."""
    before = (exported / OPENVINO_INT8_FILE).with_suffix(".bin").read_bytes()
    process = started(exported, "--calibration-data", pairs_file)
    place = exported / "openvino"
    until = time.monotonic() + 60
    while not list(place.glob(".exporting-*/*.json")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    (left,) = place.glob(".exporting-*")
    assert (exported / OPENVINO_INT8_FILE).with_suffix(".bin").read_bytes() == before
    assert CrossEncoderScorer.from_folder(exported, precision="int8").engine.precision == "int8"
    os.utime(left, (1, 1))
    export_model(exported, "int8", calibration_data=pairs_file, accept=True)
    assert (exported / OPENVINO_INT8_FILE).with_suffix(".bin").read_bytes() != before
    assert not list(place.glob(".exporting-*"))


@pytest.mark.slow
def test_two_processes_do_the_work_once(fresh_bert: Path) -> None:
    """Of two that start together one waits for the other and reports the same."""
    both = [started(fresh_bert, "--max-queries", "4", "--accept", "--json") for _ in range(2)]
    done = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], done
    assert done[0][0] == done[1][0]
    assert sum("Statistics collection" in errors for _, errors in done) == 1


def test_without_space_nothing_is_written(
    exported: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error has both sizes, and what was there stays."""
    set_free_bytes(monkeypatch, 1000)
    before = (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns
    with pytest.raises(ExportError, match=r"takes 0\.00 GB .* and 0\.00 GB are free. Free space"):
        export_model(exported, "int8", calibration_data=pairs_file)
    assert (exported / OPENVINO_INT8_FILE).stat().st_mtime_ns == before
    with pytest.raises(ExportError, match="Free space"):
        export_model(exported, "int8", output_folder=tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.xml"))


def test_a_file_where_a_folder_should_be_is_an_export_error(exported: Path, tmp_path: Path) -> None:
    """out= must be a folder or nothing yet."""
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(ExportError, match=r"cannot be written to .* Name another output_folder"):
        export_model(exported, "int8", output_folder=tmp_path / "file")
