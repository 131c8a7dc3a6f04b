"""Exports that are killed, that meet, or that find no room; and what they send: nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from rerank_plugins.errors import ExportError
from rerank_plugins.export import export_model
from rerank_plugins.hub.fidelity_report import FIDELITY_FILE
from rerank_plugins.hub.folder import OPENVINO_INT8_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

COMMAND = [sys.executable, "-m", "rerank_plugins.cli", "export"]


class Usage(NamedTuple):
    """Like `shutil.disk_usage`."""

    total: int
    used: int
    free: int


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


def test_without_room_nothing_is_begun(
    exported: Path, pairs_file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error has both sizes, and what was there stays."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**6, 10**6, 1000))
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


PROGRAM = """
import os, sys
asked = []
sys.addaudithook(lambda event, args: asked.append(event) if event in ("socket.connect", "socket.getaddrinfo") else None)
before = {name: os.environ.get(name) for name in ("CI", "NNCF_CI")}
from rerank_plugins.export import export_model
export_model(sys.argv[1], "int8", max_queries=2)
assert {name: os.environ.get(name) for name in before} == before
print(asked)
"""


@pytest.mark.slow
def test_an_export_calls_nobody(fresh_bert: Path, tmp_path: Path) -> None:
    """Nncf's reporting is off, the environment is as before, and nothing is printed unless asked for."""
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "NNCF_CI"}}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(fresh_bert)],
        env={**environment, "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n"


def test_a_report_reads_as_json_by_anything(exported: Path) -> None:
    """No NaN, no number of numpy's."""

    def refuse(name: str) -> Any:
        raise AssertionError(name)

    assert json.loads((exported / FIDELITY_FILE).read_text(encoding="utf-8"), parse_constant=refuse)
