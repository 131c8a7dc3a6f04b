"""Files on disk; and ``~`` in every path that a person can give, also where no shell replaces it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from beir_folders import write_folder, write_run
from folder_hub import serving
from rerank_plugins import Calibration, InvalidInputError, load_reranker
from rerank_plugins._internal.files import acquire_lock, make_scratch_folder, write_atomically
from rerank_plugins.cli import app
from rerank_plugins.evaluation import calibrate, evaluate
from rerank_plugins.evaluation.report import write_report
from rerank_plugins.hub.cache_dirs import cache_root
from rerank_plugins.hub.lookup import find_model, list_bundled_models
from rerank_plugins.retrieval import load_embedder, read_collection
from run_python import run_python

BUNDLED = {folder.name: folder for folder in list_bundled_models()}
CALIBRATION = Calibration(
    method="platt", slope=0.5, intercept=-1.0, model="mine", fitted_on="nothing", ece_before=0.1, ece_after=0.1
)
TEXTS = {str(number): f"the frame number {number} is of titanium" for number in range(24)}
QUERIES = {f"q{number}": f"what is the frame {number} made of" for number in range(24)}


@pytest.fixture
def home(tmp_path: Path, fresh_ir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A home folder with a small model, an embedder, documents, a collection with a run, and a calibration.

    Nothing has made a folder ``~`` in the working directory afterwards.
    """
    folder = tmp_path / "home"
    folder.mkdir()
    fresh_ir.rename(folder / "mine")
    (folder / "embedder").symlink_to(BUNDLED["embed-static-en"])
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
    evaluation = evaluate("~/data", ["~/mine"], embedder="~/embedder", work_folder="~/work", fetch_k=3)
    assert evaluate("~/data", ["~/mine"], run_file="~/data.run", fetch_k=3).first_stage == "data.run"
    write_report(evaluation, "~/report.html")
    assert calibrate("~/data", "~/mine", run_file="~/data.run", method="platt").calibration.model == "~/mine"
    assert (home / "report.html").is_file()
    assert any((home / "work").iterdir())


COMMANDS: list[tuple[list[str], list[str]]] = [
    (["rank", "frame", "--documents=~/documents.txt", "--model=~/mine", "--calibration=~/calibration.json"], []),
    (
        ["eval", "~/data", "--model=~/mine", "--run-file=~/data.run", "--work-folder=~/out", "--report=~/report.html"],
        ["out/evaluation.json", "report.html"],
    ),
    (["eval", "~/data", "--model=~/mine", "--embedder=~/embedder"], []),
    (
        [
            "calibrate",
            "~/data",
            "--model=~/mine",
            "--run-file=~/data.run",
            "--method=platt",
            "--output-file=~/new.json",
        ],
        ["new.json"],
    ),
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


def test_a_file_is_replaced_in_one_step(tmp_path: Path) -> None:
    """Where writing fails the old text stays, and no scratch file is left."""
    file = tmp_path / "file.json"
    write_atomically(file, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(file, "half a surrogate pair \ud800")
    assert (file.read_text(encoding="utf-8"), list(tmp_path.iterdir())) == ("old", [file])


def test_scratch_folders_of_killed_processes_are_removed_after_a_day(tmp_path: Path) -> None:
    """A younger one may be another machine's at work; one's own is gone after use, even if it was moved away."""
    old, young = tmp_path / ".making-old", tmp_path / ".making-young"
    for folder in (old, young):
        folder.mkdir()
    os.utime(old, (0, 0))
    with make_scratch_folder(tmp_path, ".making-") as scratch:
        Path(scratch).rename(tmp_path / "made")
    assert sorted(folder.name for folder in tmp_path.iterdir()) == [".making-young", "made"]


def test_a_lock_is_waited_for_unless_the_caller_refuses_to(tmp_path: Path) -> None:
    """Another thread counts as another process does."""

    def refuse() -> None:
        raise InvalidInputError("busy")

    path = tmp_path / "below" / "the.lock"
    with ThreadPoolExecutor(1) as pool:
        with acquire_lock(path, refuse):
            with pytest.raises(InvalidInputError, match="busy"):
                pool.submit(acquire_lock, path, refuse).result(timeout=10)
            busy = threading.Event()
            later = pool.submit(lambda: acquire_lock(path, busy.set).__exit__(None, None, None))
            assert busy.wait(timeout=10)
            assert not later.done()
        later.result(timeout=10)
    with acquire_lock(path, refuse):
        pass


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
def test_a_forked_child_leaves_a_scratch_folder_alone(tmp_path: Path) -> None:
    """A child that ends in the ordinary way does not remove the folder that its parent works in."""
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from rerank_plugins._internal.files import make_scratch_folder\n"
        f"with make_scratch_folder(Path({str(tmp_path)!r}), 'work-') as folder:\n"
        "    child = os.fork()\n"
        "    if not child: sys.exit(0)\n"
        "    os.waitpid(child, 0)\n"
        "    print(os.path.isdir(folder))\n"
        "print(os.path.isdir(folder))\n"
    )
    assert run_python(program).split() == ["True", "False"]


def test_a_file_whose_name_just_fits_is_written(tmp_path: Path) -> None:
    """The scratch file beside it has a short name."""
    write_atomically(tmp_path / ("a" * 255), "text")
    assert (tmp_path / ("a" * 255)).read_text(encoding="utf-8") == "text"
