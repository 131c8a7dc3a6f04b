"""Trainings that were stopped, in whatever way, resume and end with the same weights."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from collections_to_learn import train, weights
from disk_space import set_free_bytes
from rerank_plugins import TrainingError
from rerank_plugins.training.callbacks import LearningCurve

LONG = 3
"""Epochs: 27 steps of which a test can interrupt some."""


@contextmanager
def files_of_at_most(size: int, after: Path | None = None) -> Iterator[None]:
    """The system writes no file beyond ``size`` bytes, from now on or once ``after`` is there; a full disk is alike."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    ended = threading.Event()

    def arm() -> None:
        while after is not None and not after.exists() and not ended.is_set():
            time.sleep(0.001)
        if not ended.is_set():
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))

    thread = threading.Thread(target=arm)
    thread.start()
    if after is None:
        thread.join()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture(scope="session")
def uninterrupted(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    train(data, base, out, epochs=LONG)
    return out


@pytest.fixture(scope="session")
def interrupted(base: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, in a disk that filled up after step 4; its message is beside it."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    with (
        files_of_at_most(150_000, after=out / "work" / "checkpoint-4" / "digests.json"),
        pytest.raises(TrainingError) as ended,
    ):
        train(data, base, out, epochs=LONG, minutes_between_checkpoints=0)
    out.with_suffix(".txt").write_text(str(ended.value))
    return out


@pytest.fixture
def stopped(interrupted: Path, tmp_path: Path) -> Path:
    """A copy that a test may resume, or damage."""
    return shutil.copytree(interrupted, tmp_path / "stopped")


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "work").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def same_end(out: Path, uninterrupted: Path) -> bool:
    """Whether weights and development are those of the training that nobody stopped, to the last bit."""
    curves = [
        [(point.step, point.development) for point in LearningCurve(folder / "work" / "log.jsonl").points]
        for folder in (out, uninterrupted)
    ]
    return weights(out) == weights(uninterrupted) and curves[0] == curves[1]


def test_a_full_disk_is_a_training_error(interrupted: Path) -> None:
    """The message has the system's reason, the checkpoint to resume from and what to do; only that checkpoint stays."""
    message = interrupted.with_suffix(".txt").read_text()
    (checkpoint,) = checkpoints(interrupted)
    step = int(checkpoint.name.split("-")[1])
    assert step >= 4
    assert (
        f"The checkpoint of step {step} is complete. Free space if the disk is full, and run the same command"
        in message
    )


def test_a_stopped_training_resumes_to_the_same_weights(
    stopped: Path, uninterrupted: Path, base: Path, data: Path
) -> None:
    """Also the choice of the best step and the curve are those of a training that nobody stopped."""
    train(data, base, stopped, epochs=LONG)
    assert same_end(stopped, uninterrupted)
    assert checkpoints(stopped) == []


@pytest.mark.slow
def test_at_most_two_checkpoints_are_there(stopped: Path, base: Path, data: Path) -> None:
    """Also while one is written after every step."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            most[0] = max(most[0], len(checkpoints(stopped)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        train(data, base, stopped, epochs=LONG, minutes_between_checkpoints=0)
    finally:
        ended.set()
        thread.join()
    assert 1 <= most[0] <= 2


@pytest.mark.parametrize(
    "damage",
    ["changed", *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("cut", "no digests", "empty"))],
)
def test_a_damaged_checkpoint_is_skipped(
    stopped: Path, uninterrupted: Path, base: Path, data: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer one that is incomplete, or whose files changed since, is not resumed from; the one before it is."""
    (before,) = checkpoints(stopped)
    newer = stopped / "work" / "checkpoint-40"
    shutil.copytree(before, newer)
    model = newer / "model.safetensors"
    if damage == "cut":
        os.truncate(model, 1000)
    elif damage == "changed":
        content = bytearray(model.read_bytes())
        content[-1] ^= 1
        model.write_bytes(content)
    elif damage == "no digests":
        (newer / "digests.json").unlink()
    else:
        shutil.rmtree(newer)
        newer.mkdir()
    train(data, base, stopped, epochs=LONG)
    assert "checkpoint-40 is incomplete or damaged" in caplog.text
    assert same_end(stopped, uninterrupted)


@pytest.mark.slow
def test_without_a_complete_checkpoint_it_starts_again(
    stopped: Path, uninterrupted: Path, base: Path, data: Path
) -> None:
    """And ends as the others do."""
    (only,) = checkpoints(stopped)
    (only / "optimizer.pt").write_bytes(b"")
    train(data, base, stopped, epochs=LONG)
    assert same_end(stopped, uninterrupted)


@pytest.mark.slow
def test_a_disk_without_space_for_the_model_is_a_training_error(base: Path, data: Path, tmp_path: Path) -> None:
    """Before the first checkpoint there is nothing to resume from, and the message says so."""
    with files_of_at_most(50_000), pytest.raises(TrainingError, match="No checkpoint was written yet"):
        train(data, base, tmp_path / "out")
    train(data, base, tmp_path / "out")


def test_free_space_is_checked_first(base: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the weights: two checkpoints, the best model and its successor; with less it does not start."""
    size = sum(4 * tensor.numel() for tensor in tensors(base).values())
    set_free_bytes(monkeypatch, 7 * size)
    with pytest.raises(TrainingError, match=r"takes 0\.00 GB in .* Free space, or name another output_folder"):
        train(data, base, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def tensors(folder: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.slow
def test_a_killed_training_resumes(uninterrupted: Path, base: Path, data: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, most likely while a checkpoint is written; the same weights at the end."""
    out = tmp_path / "out"
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1] / 'support')!r})\n"
        f"from pathlib import Path\nfrom collections_to_learn import train\n"
        f"folders = map(Path, {[str(data), str(base), str(out)]})\n"
        f"train(*folders, epochs={LONG}, minutes_between_checkpoints=0)"
    )
    for least in (3, 12):
        process = subprocess.Popen([sys.executable, "-c", program])
        until = time.monotonic() + 120
        while not any(int(path.name.split("-")[1]) >= least for path in checkpoints(out)):
            assert process.poll() is None
            assert time.monotonic() < until
            time.sleep(0.001)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    train(data, base, out, epochs=LONG)
    assert same_end(out, uninterrupted)
