"""Users who have no home folder, as containers have that are run by any number; and those whose folder is of no use."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from folder_hub import serving
from rerank_plugins import InvalidInputError
from rerank_plugins.hub.cache_dirs import cache_root


def run_without_home(*arguments: str, given: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Python as a user of whom nothing is known but a number, and who has no ``HOME``."""
    dropped = {"HOME", "XDG_CACHE_HOME", "RERANK_PLUGINS_CACHE", "HF_HOME", "HF_HUB_CACHE"}
    return subprocess.run(
        ["unshare", "--user", "--map-user=12345", sys.executable, *arguments],  # noqa: S607 - wherever it is
        env={**{name: value for name, value in os.environ.items() if name not in dropped}, **environment},
        input=given,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where temporary files go; skips where no such user can be had. The working directory stays empty."""
    homeless = "import pathlib\ntry: pathlib.Path.home()\nexcept RuntimeError: print('none')"
    if shutil.which("unshare") is None or run_without_home("-c", homeless).stdout != "none\n":
        pytest.skip("needs unshare and user namespaces")
    (tmp_path / "temporary").mkdir()
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "here")
    yield tmp_path / "temporary"
    assert list((tmp_path / "here").iterdir()) == []


LOAD = "import json, sys; from rerank_plugins import load_reranker; load_reranker(**json.loads(sys.argv[1]))"


COMMANDS = """
import sys
from rerank_plugins.cli import app
for command in (["doctor"], ["models"], ["rank", "frame", "--documents=-", "--model=rerank-mini-en"]):
    app(command, standalone_mode=False)
"""


def test_commands_work_without_a_home_folder(temporary: Path) -> None:
    """Our cache is among the temporary files, models are found, and documents ranked, without a warning."""
    done = run_without_home("-c", COMMANDS, given="a frame\nno frame\n", HF_ENDPOINT="http://127.0.0.1:9")
    assert (done.returncode, done.stderr) == (0, "")
    assert all(shown in done.stdout for shown in ("rerank-plugins-12345", "rerank-mini-en", "a frame"))
    assert temporary.is_dir()


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_models_load_without_a_home_folder(temporary: Path, fresh_bert: Path, engine: str) -> None:
    """What is converted for a folder that cannot be written to is kept among the temporary files."""
    snapshot = fresh_bert.parent / "models--OWNER--NAME" / "snapshots" / "0123abc"
    shutil.copytree(fresh_bert, snapshot)
    options = {"model": str(snapshot), "engine": engine, "precision": "fp32", "device": "cpu"}
    done = run_without_home("-c", LOAD, json.dumps(options))
    assert done.returncode == 0, done.stderr
    kept = temporary / "rerank-plugins-12345" / "converted" / "models--OWNER--NAME--0123abc"
    assert kept.is_dir() == (engine == "openvino")


@pytest.mark.slow
def test_nncf_can_be_imported_without_a_home_folder(temporary: Path) -> None:
    """Though it asks for one, for its own caches."""
    done = run_without_home("-c", "from rerank_plugins.export.quantization import import_nncf; import_nncf()")
    assert done.returncode == 0, done.stderr
    assert temporary.is_dir()


def test_a_download_needs_a_folder_where_there_is_no_home(temporary: Path, bert_folder: Path) -> None:
    """The error names what gives it one, and with either it works."""
    program, name = (
        "import sys; from rerank_plugins.hub import find_model; find_model(*sys.argv[1:])",
        "OWNER/NAME",
    )
    with_folder = program.replace("(*sys.argv[1:])", "(sys.argv[1], cache_folder=sys.argv[2])")
    with serving(bert_folder) as hub:
        environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
        done = run_without_home("-c", program, name, **environment)
        assert "no home folder to download to: set HF_HOME, or give cache_folder" in done.stderr
        assert hub.fetched == []
        for done in (
            run_without_home("-c", program, name, **environment, HF_HOME=str(temporary / "hf")),
            run_without_home("-c", with_folder, name, str(temporary / "hub"), **environment),
        ):
            assert done.returncode == 0, done.stderr


HOMELESS_PATHS = """
from rerank_plugins import InvalidInputError, load_reranker
for options in ({"calibration": "~/c.json"}, {"score_cache": 10, "score_cache_folder": "~/x"}, {"cache_folder": "~/x"}):
    try:
        load_reranker("rerank-mini-en", **options)
    except InvalidInputError as error:
        print(error)
"""


def test_a_path_in_nobodys_home_folder_is_an_error(temporary: Path) -> None:
    """It says so, instead of making a folder of that name."""
    errors = run_without_home("-c", HOMELESS_PATHS).stdout.splitlines()
    assert len(errors) == 3
    assert all(error.startswith("~/") and "Give the path in full, or set HOME" in error for error in errors)
    assert temporary.is_dir()


def test_a_home_folder_that_cannot_be_used_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file stands in its way; but a cache that was filled when the image was built is used, if only read."""
    monkeypatch.delenv("RERANK_PLUGINS_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "file").touch()
    monkeypatch.setenv("HOME", str(tmp_path / "file"))
    assert cache_root() == tmp_path / f"rerank-plugins-{os.getuid()}"
    filled = tmp_path / "home" / ".cache" / "rerank-plugins"
    filled.mkdir(parents=True)
    filled.chmod(0o555)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == filled


def test_a_temporary_folder_of_somebody_else_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What others put there would be loaded: the error names the variable to set."""
    monkeypatch.delenv("RERANK_PLUGINS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/dev/null/caches")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "others").mkdir()
    (tmp_path / f"rerank-plugins-{os.getuid()}").symlink_to(tmp_path / "others")
    with pytest.raises(InvalidInputError, match=r"another user's\. Set RERANK_PLUGINS_CACHE"):
        cache_root()
