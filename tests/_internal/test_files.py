"""``~`` in every path that a person can give, also where no shell replaces it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from beir_folders import write_folder, write_run
from folder_hub import serving
from rerank_plugins import Calibration, load_reranker
from rerank_plugins.cli import app
from rerank_plugins.evaluation import calibrate, evaluate
from rerank_plugins.evaluation.report import write_report
from rerank_plugins.hub.cache_dirs import cache_root
from rerank_plugins.hub.lookup import box_folders, find_model
from rerank_plugins.retrieval import load_embedder, read_collection

BOX = {folder.name: folder for folder in box_folders()}
CALIBRATION = Calibration(
    method="platt", slope=0.5, intercept=-1.0, model="mine", fitted_on="nothing", ece_before=0.1, ece_after=0.1
)
TEXTS = {str(number): f"the frame number {number} is of titanium" for number in range(24)}
QUERIES = {f"q{number}": f"what is the frame {number} made of" for number in range(24)}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with a model, an embedder, documents, a collection with a run, and a calibration.

    Nothing has made a folder ``~`` in the working directory afterwards.
    """
    folder = tmp_path / "home"
    shutil.copytree(BOX["rerank-mini-en"], folder / "mine")
    shutil.copytree(BOX["embed-static-en"], folder / "embedder")
    write_folder(folder / "data", TEXTS, QUERIES, {query: {query[1:]: 1} for query in QUERIES})
    write_run(folder / "data.run", {query: [*TEXTS] for query in QUERIES})
    (folder / "documents.txt").write_text("\n".join(TEXTS.values()), encoding="utf-8")
    CALIBRATION.write(folder / "calibration.json")
    monkeypatch.setenv("HOME", str(folder))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    yield folder
    assert list((tmp_path / "here").iterdir()) == []


def test_every_path_of_load_reranker_may_begin_with_the_home_folder(home: Path) -> None:
    """Model, calibration and score cache; scores are those of the paths in full."""
    files = {"model": "mine", "calibration": "calibration.json", "score_cache_folder": "scores"}
    for type_ in (str, Path):
        short, full = (
            load_reranker(**{name: type_(f"{place}/{file}") for name, file in files.items()}, score_cache=10)
            for place in ("~", home)
        )
        with short, full:
            assert short.calibration == full.calibration == CALIBRATION
            assert short.rerank("frame", ["the frame"])[0].score == full.rerank("frame", ["the frame"])[0].score
    assert (home / "scores" / "scores.sqlite3").is_file()


def test_a_cache_folder_may_begin_with_the_home_folder(home: Path, bert_folder: Path) -> None:
    """What the hub gives lies there afterwards, and is found there."""
    program = "from rerank_plugins.hub import find_model; print(find_model('OWNER/NAME', cache_folder='~/hub'))"
    with serving(bert_folder) as hub:
        for endpoint in (hub.url, "http://127.0.0.1:9"):
            done = subprocess.run(
                [sys.executable, "-c", program],
                env={**os.environ, "HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0"},
                capture_output=True,
                text=True,
                check=True,
                timeout=60,
            )
            assert done.stdout.startswith(str(home / "hub"))
    assert find_model("OWNER/NAME", cache_folder=Path("~/hub"), local_files_only=True).is_relative_to(home / "hub")


def test_adapters_take_paths_in_the_home_folder(home: Path) -> None:
    """As load_reranker does; what they are dumped to keeps ``~``, and so fits another machine."""
    from rerank_plugins.langchain import RerankCompressor

    options = {"model": "~/mine", "calibration": "~/calibration.json", "score_cache_folder": "~/scores"}
    compressor = RerankCompressor(**options, score_cache=10)
    assert compressor.model_dump(include=set(options)) == options
    assert compressor._reranker().calibration == CALIBRATION
    assert home.is_dir()


def test_a_calibration_is_written_and_read_in_the_home_folder(home: Path) -> None:
    """By itself as well."""
    CALIBRATION.write("~/another.json")
    assert Calibration.read(Path("~/another.json")) == CALIBRATION
    assert (home / "another.json").is_file()


def test_evaluations_and_calibrations_take_paths_in_the_home_folder(home: Path) -> None:
    """Collection, model, embedder, run, work folder and report."""
    assert read_collection("~/data").passages == TEXTS
    assert load_embedder("~/embedder")(["a frame"]).shape[0] == 1
    evaluation = evaluate("~/data", ["~/mine"], embedder="~/embedder", work_folder="~/work", top_k=3)
    assert evaluate("~/data", ["~/mine"], run="~/data.run", top_k=3).first_stage == "data.run"
    write_report(evaluation, "~/report.html")
    assert calibrate("~/data", "~/mine", run="~/data.run", method="platt").calibration.model == "~/mine"
    assert (home / "report.html").is_file()
    assert any((home / "work").iterdir())


COMMANDS: list[tuple[list[str], list[str]]] = [
    (["rank", "frame", "--documents=~/documents.txt", "--model=~/mine", "--calibration=~/calibration.json"], []),
    (
        ["eval", "~/data", "--model=~/mine", "--run=~/data.run", "--out=~/out", "--report=~/report.html"],
        ["out/evaluation.json", "report.html"],
    ),
    (["eval", "~/data", "--model=~/mine", "--embedder=~/embedder"], []),
    (["calibrate", "~/data", "--model=~/mine", "--run=~/data.run", "--method=platt", "--out=~/new.json"], ["new.json"]),
    (["demo", "--model=~/mine"], []),
    (["traps", "--model=~/mine", "--embedder=~/embedder", "--language=en"], []),
]


@pytest.mark.parametrize(("command", "files"), COMMANDS, ids=lambda value: value[0] if value else None)
def test_commands_take_paths_in_the_home_folder(home: Path, command: list[str], files: list[str]) -> None:
    """No shell replaces ``~`` in ``--option=~/path``."""
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, (done.output, done.exception)
    assert all((home / name).is_file() for name in files)


def test_an_export_takes_paths_in_the_home_folder(home: Path, fresh_bert: Path) -> None:
    """Model, texts and target."""
    shutil.move(fresh_bert, home / "bert")
    arguments = ["~/bert", "--precision=fp32", "--calibration-data=~/data", "--output-folder=~/made", "--max-queries=5"]
    done = CliRunner().invoke(app, ["export", *arguments])
    assert done.exit_code == 0, (done.output, done.exception)
    assert (home / "made" / "openvino" / "openvino_model.xml").is_file()


@pytest.mark.slow
def test_a_training_takes_paths_in_the_home_folder(home: Path, fresh_bert: Path) -> None:
    """Collection, base, run, teacher and target."""
    from collections_to_learn import RECIPE, make_collection
    from rerank_plugins.training import train_reranker

    shutil.move(fresh_bert, home / "bert")
    make_collection().write(home / "bakery")
    paths: dict[str, Any] = {"output_folder": "~/baker", "run_file": "~/bakery.run", "teacher": "~/mine"}
    training = train_reranker("~/bakery", "~/bert", **paths, **{**RECIPE, "epochs": 1})
    assert training.folder == home / "baker"
    assert (home / "baker" / "model.safetensors").is_file()


def test_our_cache_may_lie_in_the_home_folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by the system's variable."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", "~/ours")
    assert cache_root() == home / "ours"
    monkeypatch.delenv("RERANK_PLUGINS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/caches")
    assert cache_root() == home / "caches" / "rerank-plugins"
