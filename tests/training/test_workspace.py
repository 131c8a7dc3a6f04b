"""The output folder of a training: whose it is, and with which options a training resumes."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from collections_to_learn import RECIPE, make_collection, make_config, train
from rerank_plugins import InvalidInputError
from rerank_plugins.training import Training
from rerank_plugins.training.run import TrainingRun


@pytest.fixture
def started(base: Path, data: Path, tmp_path: Path) -> Path:
    """The output folder of a training that was stopped before its first step."""
    output = tmp_path / "started"
    with TrainingRun.open(make_config(data, base, output)):
        return output


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": RECIPE["epochs"] + 1}, r"epochs 2 \(now 3\)"),
        ({"learning_rate": 1e-3, "seed": 4}, r"learning_rate 0.005 \(now 0.001\), seed 0 \(now 4\)"),
        ({"drop_leaks": True}, r"drop_leaks False \(now True\)"),
    ],
)
def test_other_options_are_refused(
    started: Path, base: Path, data: Path, changes: dict[str, Any], message: str
) -> None:
    """The message says which differ, and how to start anew."""
    expected = rf"started with {message}\. Give the same options .* fresh=True \(--fresh\)"
    with pytest.raises(InvalidInputError, match=expected):
        train(data, base, started, **changes)


def test_other_data_and_another_base_are_refused(
    started: Path, base: Path, data: Path, training: Training, tmp_path: Path
) -> None:
    """Under the same names too."""
    collection = make_collection()
    collection.passages["p1a"] += " again"
    with pytest.raises(InvalidInputError, match=r"started with data \w{12}… \(now \w{12}…\)\. Give"):
        train(collection.write(tmp_path / "bakery"), base, started)
    with pytest.raises(InvalidInputError, match=r"started with base \w{12}… \(now"):
        train(data, training.folder, started)


def test_fresh_starts_anew(started: Path, base: Path, data: Path) -> None:
    """Other options are no error then, and what an earlier training left is gone."""
    (started / "work" / "candidates.jsonl").touch()
    with TrainingRun.open(make_config(data, base, started, epochs=1, fresh=True)):
        assert [path.name for path in (started / "work").iterdir()] == ["options.json"]


@pytest.mark.parametrize("fresh", [False, True])
def test_a_folder_of_something_else_is_left_alone(base: Path, data: Path, tmp_path: Path, *, fresh: bool) -> None:
    """The base's own folder, say; also with fresh."""
    other = shutil.copytree(base, tmp_path / "model")
    before = sorted(other.rglob("*"))
    with pytest.raises(InvalidInputError, match=r"holds config\.json, .* and no training of ours"):
        train(data, other, other, fresh=fresh)
    assert sorted(other.rglob("*")) == before


def test_an_output_folder_inside_the_data_is_refused(base: Path, data: Path) -> None:
    """The collection is only read."""
    before = sorted(data.rglob("*"))
    with pytest.raises(InvalidInputError, match="which is only read"):
        train(data, base, data / "model")
    assert sorted(data.rglob("*")) == before


def test_two_trainings_do_not_share_a_folder(base: Path, data: Path, tmp_path: Path) -> None:
    """A second one is refused until the first ends."""
    config = make_config(data, base, tmp_path / "output")
    with TrainingRun.open(config), pytest.raises(InvalidInputError, match="Another training is running in"):
        train(data, base, tmp_path / "output")
    with TrainingRun.open(config):
        pass


def test_other_weights_in_the_output_folder_are_refused(
    training: Training, base: Path, data: Path, tmp_path: Path
) -> None:
    """They are neither evaluated under this name nor overwritten."""
    output = shutil.copytree(training.folder, tmp_path / "output")
    shutil.copyfile(base / "model.safetensors", output / "model.safetensors")
    with pytest.raises(InvalidInputError, match="are not those that the training wrote"):
        train(data, base, output)
