"""`rerank-plugins train`: what it prints and how it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from collections_to_learn import RECIPE
from rerank_plugins.training import Training

Here = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(training: Training, data: Path) -> list[str | Path]:
    """What was trained, as it is given at the command line."""
    recipe = [str(part) for name, value in RECIPE.items() for part in (f"--{name.replace('_', '-')}", value)]
    return [
        *("train", data, "--base", training.base, "--output-folder", training.folder),
        *("--run-file", data.with_suffix(".run"), *recipe),
    ]


def test_the_same_command_again_computes_nothing(here: Here, command: list[str | Path], training: Training) -> None:
    """It prints what was measured: before and after, the verdicts, and how to load the model."""
    files = [path for path in training.folder.rglob("*") if path.suffix in {".safetensors", ".bin"}]
    before = {path: path.stat().st_mtime_ns for path in files}
    done = here(*command)
    assert done.returncode == 0, done.stderr
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert "bakery: 12 queries that were not learned from" in done.stdout
    rows = [line.split() for line in done.stdout.splitlines() if "1.000 to 1.000" in line]
    assert rows[0][-5:] == ["1.000", "1.000", "to", "1.000", "1.000"]
    assert training.change.verdict in done.stdout
    assert training.development_verdict in done.stdout
    assert f"load_reranker({str(training.folder)!r})" in done.stdout


def test_json_is_the_whole_training(here: Here, command: list[str | Path], training: Training) -> None:
    """--json prints one object and nothing else on standard output; the same is in work."""
    done = here(*command, "--json")
    found = json.loads(done.stdout)
    assert found == json.loads((training.folder / "work" / "training.json").read_text())
    assert found["change"]["difference"]["mean"] == training.change.difference.mean
    assert found["data"]["judged"] == 70
    assert [point["step"] for point in found["curve"]] == [point.step for point in training.curve]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("missing", "--base", "{base}"), "missing has no qrels/train.tsv"),
        (("{data}", "--base", "rerank-mini-en"), "rerank-mini-en has no torch weights to train"),
        (("{data}", "--base", "no/such-model"), "The model 'no/such-model' was not found"),
        (("{data}", "--base", "{base}", "--run-file", "missing.run"), "There is no file missing.run"),
        (("{data}", "--base", "{base}", "--list-size", "1"), "list_size must be a whole number of at least 2"),
        (("{data}", "--base", "{base}", "--teacher", "no/such"), "The model 'no/such' was not found"),
    ],
)
def test_errors_are_one_message_and_status_2(
    here: Here,
    base: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    """What a person can get wrong ends with a message that helps, and no traceback; nothing is written."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    done = here("train", *(argument.format(base=base, data=data) for argument in arguments), "--output-folder", out)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not out.exists()
