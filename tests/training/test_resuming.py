"""Trainings that were stopped, in whatever way, go on to the same end; and only with what is theirs."""

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
from typing import Any, NamedTuple

import pytest

from collections_to_learn import learn, made, sitting, weights
from rerank_plugins import InvalidInputError, TrainingError
from rerank_plugins.training.learning_curve import CurveFile

LONG = 3
"""Epochs: 27 steps of which a test can interrupt some."""


class Usage(NamedTuple):
    """Like `shutil.disk_usage`."""

    total: int
    used: int
    free: int


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
def uninterrupted(pupil: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("uninterrupted") / "out"
    learn(data, pupil, out, epochs=LONG)
    return out


@pytest.fixture(scope="session")
def interrupted(pupil: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same training, in a disk that filled up after step 4; its message is beside it."""
    out = tmp_path_factory.mktemp("interrupted") / "out"
    with (
        files_of_at_most(150_000, after=out / "work" / "checkpoint-4" / "whole.json"),
        pytest.raises(TrainingError) as ended,
    ):
        learn(data, pupil, out, epochs=LONG, minutes=0)
    out.with_suffix(".txt").write_text(str(ended.value))
    return out


@pytest.fixture
def stopped(interrupted: Path, tmp_path: Path) -> Path:
    """A copy that a test may go on with, or damage."""
    return shutil.copytree(interrupted, tmp_path / "stopped")


def checkpoints(out: Path) -> list[Path]:
    return sorted((out / "work").glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))


def same_end(out: Path, uninterrupted: Path) -> bool:
    """Whether weights and development are those of the training that nobody stopped, to the last bit."""
    curves = [
        [(point.step, point.development) for point in CurveFile(folder / "work" / "log.jsonl").points()]
        for folder in (out, uninterrupted)
    ]
    return weights(out) == weights(uninterrupted) and curves[0] == curves[1]


def test_a_full_disk_is_a_training_error(interrupted: Path) -> None:
    """The system's reason, what is kept, and what to do; the last whole checkpoint is there, the half one is not."""
    message = interrupted.with_suffix(".txt").read_text()
    (kept,) = checkpoints(interrupted)
    step = int(kept.name.split("-")[1])
    assert step >= 4
    assert (
        f"The checkpoint of step {step} is whole. Make room if the disk is full, and give the same command" in message
    )


def test_what_was_stopped_goes_on_to_the_same_weights(
    stopped: Path, uninterrupted: Path, pupil: Path, data: Path
) -> None:
    """Also the choice of the best step and the curve are those of a training that nobody stopped."""
    learn(data, pupil, stopped, epochs=LONG)
    assert same_end(stopped, uninterrupted)
    assert checkpoints(stopped) == []


@pytest.mark.slow
def test_at_most_two_checkpoints_are_there(stopped: Path, pupil: Path, data: Path) -> None:
    """Also while one is written after every step."""
    most, ended = [0], threading.Event()

    def watch() -> None:
        while not ended.is_set():
            most[0] = max(most[0], len(checkpoints(stopped)))

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        learn(data, pupil, stopped, epochs=LONG, minutes=0)
    finally:
        ended.set()
        thread.join()
    assert 1 <= most[0] <= 2


@pytest.mark.parametrize(
    "damage",
    ["changed", *(pytest.param(damage, marks=pytest.mark.slow) for damage in ("cut", "unlisted", "empty"))],
)
def test_a_damaged_checkpoint_is_passed_over(
    stopped: Path, uninterrupted: Path, pupil: Path, data: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    """A newer one that was half written, or whose files changed since, is not gone on from; the one before it is."""
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
    elif damage == "unlisted":
        (newer / "whole.json").unlink()
    else:
        shutil.rmtree(newer)
        newer.mkdir()
    learn(data, pupil, stopped, epochs=LONG)
    assert "checkpoint-40 is not whole" in caplog.text
    assert same_end(stopped, uninterrupted)


@pytest.mark.slow
def test_without_a_whole_checkpoint_it_begins_again(
    stopped: Path, uninterrupted: Path, pupil: Path, data: Path
) -> None:
    """And ends as the others do."""
    (only,) = checkpoints(stopped)
    (only / "optimizer.pt").write_bytes(b"")
    learn(data, pupil, stopped, epochs=LONG)
    assert same_end(stopped, uninterrupted)


@pytest.mark.slow
def test_a_disk_without_room_for_the_model_is_a_training_error(pupil: Path, data: Path, tmp_path: Path) -> None:
    """Before the first checkpoint there is nothing to go on from, and the message says so."""
    with files_of_at_most(50_000), pytest.raises(TrainingError, match="No checkpoint was written yet"):
        learn(data, pupil, tmp_path / "out")
    learn(data, pupil, tmp_path / "out")


def test_room_is_asked_for_first(pupil: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight times the weights: two checkpoints, the best model and its successor; with less it is not begun."""
    size = sum(4 * tensor.numel() for tensor in tensors(pupil).values())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 7 * size))
    with pytest.raises(TrainingError, match=r"takes 0\.00 GB in .* Make room, or name another folder with out"):
        learn(data, pupil, tmp_path / "out")
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def tensors(folder: Path) -> Any:
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": LONG + 1}, rf"epochs {LONG} \(now {LONG + 1}\)"),
        ({"learning_rate": 1e-3, "seed": 4}, r"learning_rate 0.005 \(now 0.001\), seed 0 \(now 4\)"),
    ],
)
def test_other_options_are_refused(
    stopped: Path, pupil: Path, data: Path, changes: dict[str, Any], message: str
) -> None:
    """The message says which differ, and how to begin anew."""
    with pytest.raises(InvalidInputError, match=rf"begun with {message}\. Give the same .* fresh=True \(--fresh\)"):
        learn(data, pupil, stopped, **{"epochs": LONG, **changes})


def test_other_data_and_another_base_are_refused(stopped: Path, pupil: Path, whole: Any, tmp_path: Path) -> None:
    """Under the same names too."""
    collection = made()
    collection.passages["p1a"] += " again"
    with pytest.raises(InvalidInputError, match=r"begun with data \w{12}… \(now \w{12}…\)\. Give"):
        learn(collection.write(tmp_path / "bakery"), pupil, stopped, epochs=LONG)
    with pytest.raises(InvalidInputError, match=r"begun with base \w{12}… \(now"):
        learn(made().write(tmp_path / "bakery"), whole.folder, stopped, epochs=LONG)


@pytest.mark.slow
def test_fresh_begins_anew(stopped: Path, pupil: Path, data: Path) -> None:
    """With other options, and without what was there."""
    told = learn(data, pupil, stopped, epochs=1, fresh=True)
    assert told["steps"] == 9


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_left_alone(pupil: Path, data: Path, tmp_path: Path, fresh: bool) -> None:  # noqa: FBT001 - a case
    """The base's own folder, say; also with fresh."""
    other = shutil.copytree(pupil, tmp_path / "model")
    before = sorted(other.rglob("*"))
    with pytest.raises(InvalidInputError, match=r"holds config\.json, .* and no training of ours"):
        learn(data, other, other, fresh=fresh)
    assert sorted(other.rglob("*")) == before


def test_a_model_inside_the_data_is_refused(pupil: Path, data: Path) -> None:
    """The collection is only read."""
    before = sorted(data.rglob("*"))
    with pytest.raises(InvalidInputError, match="which is only read"):
        learn(data, pupil, data / "model")
    assert sorted(data.rglob("*")) == before


def test_two_trainings_do_not_share_a_folder(stopped: Path, pupil: Path, data: Path) -> None:
    """A second one is refused until the first ends."""
    with (
        sitting(data, pupil, stopped, epochs=LONG),
        pytest.raises(InvalidInputError, match="Another training is at work in"),
    ):
        learn(data, pupil, stopped, epochs=LONG)


def test_weights_that_are_not_the_trainings_are_told(
    uninterrupted: Path, pupil: Path, data: Path, tmp_path: Path
) -> None:
    """What somebody else put there is neither evaluated under this name nor overwritten."""
    out = shutil.copytree(uninterrupted, tmp_path / "out")
    shutil.copyfile(pupil / "model.safetensors", out / "model.safetensors")
    with pytest.raises(InvalidInputError, match="are not those that the training left there"):
        learn(data, pupil, out, epochs=LONG)


@pytest.mark.slow
def test_a_killed_training_goes_on(uninterrupted: Path, pupil: Path, data: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, most likely while a checkpoint is written; the same weights at the end."""
    out = tmp_path / "out"
    program = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[1])!r})\n"
        f"from pathlib import Path\nfrom collections_to_learn import learn\n"
        f"learn(Path({str(data)!r}), Path({str(pupil)!r}), Path({str(out)!r}), epochs={LONG}, minutes=0)"
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
    learn(data, pupil, out, epochs=LONG)
    assert same_end(out, uninterrupted)
