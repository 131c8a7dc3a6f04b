from __future__ import annotations

import http.server
import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from rerank_plugins import ModelLoadError, ModelNotFoundError
from rerank_plugins.hub import find_model

NAME = "OWNER/NAME-v1"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
COMPLETE = ("config.json", "tokenizer.json", "model.safetensors")

BOX = Path(__file__).parents[2] / "models" / "rerank-mini-en"

FIND = f"""
from rerank_plugins import RerankError
from rerank_plugins.hub import find_model
try:
    print("found", find_model({NAME!r}))
except RerankError as error:
    print(type(error).__name__, error)
"""


def fill(folder: Path, names: tuple[str, ...] = COMPLETE) -> Path:
    """A folder with files of these names and nothing in them."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("{}")
    return folder


def fill_cache(cache: Path, names: tuple[str, ...] = COMPLETE) -> Path:
    """A Hugging Face cache as the hub's client lays it out, with one snapshot of these files."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    return fill(repository / "snapshots" / COMMIT, names)


def find_in_subprocess(folder: Path, **environment: str) -> str:
    """What finding the model prints in a Python of its own, whose hub and cache are as given."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    done = subprocess.run(
        [sys.executable, "-c", FIND],
        env={**clean, "HF_HOME": str(folder / "hf"), "HF_HUB_DISABLE_TELEMETRY": "1", **environment},
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout


@pytest.fixture(autouse=True)
def empty_working_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory without models/."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


class FakeHub(http.server.BaseHTTPRequestHandler):
    """The parts of the hub's interface that a download uses, with one model, pickles and all."""

    files = (*COMPLETE, "pytorch_model.bin", "training_args.bin", "onnx/model_O4.onnx", "tf_model.h5", "README.md")

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """The model's commit, its file list, a file, or the hub's way to say no."""
        if self.path.partition("?")[0] in (f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main"):
            self._answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": [{"rfilename": f} for f in self.files]}))
        elif self.path.startswith(f"/api/models/{NAME}/tree/"):
            self._answer(json.dumps([{"type": "file", "path": f, "size": 2, "oid": f} for f in self.files]))
        elif self.path.startswith(f"/{NAME}/resolve/{COMMIT}/"):
            self._answer("{}", {"X-Repo-Commit": COMMIT, "ETag": f'"{self.path.rpartition("/")[2]}"'})
        else:
            self._answer("", {"X-Error-Code": "RepoNotFound"}, status=404)

    def _answer(self, body: str, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class EmptyHub(FakeHub):
    """A hub that has no model at all."""

    def do_GET(self) -> None:
        """No such model."""
        self._answer("", {"X-Error-Code": "RepoNotFound"}, status=404)


@pytest.fixture
def hub_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a hub on this machine: `FakeHub`, or the class given as parameter."""
    handler = getattr(request, "param", FakeHub)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_folder_is_itself(tmp_path: Path) -> None:
    """A path to a complete folder, as string or Path, is that folder."""
    folder = fill(tmp_path / "somewhere")
    assert (find_model(folder), find_model(str(folder))) == (folder, folder)


@pytest.mark.parametrize(
    "weights",
    [
        "model.safetensors",
        "onnx/model.onnx",
        "openvino/openvino_model.xml",
        "openvino/openvino_model_qint8_quantized.xml",
    ],
)
def test_any_one_kind_of_weights_is_enough(tmp_path: Path, weights: str) -> None:
    """safetensors, whole or sharded, ONNX, IR and int8 IR each make a folder complete."""
    data = weights.replace(".xml", ".bin")
    folder = fill(tmp_path / "model", ("config.json", "tokenizer.json", weights, data))
    assert find_model(folder) == folder


def test_shards_that_the_index_lists_are_enough(tmp_path: Path) -> None:
    """Sharded safetensors are complete with every shard of their index, and name those that are missing."""
    folder = fill(tmp_path / "model", ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"))
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelLoadError, match=r"model-00002-of-00002\.safetensors missing"):
        find_model(folder)
    (folder / "model-00002-of-00002.safetensors").touch()
    assert find_model(folder) == folder


@pytest.mark.parametrize("place", ["models/OWNER/NAME-v1", "models/NAME-v1"])
def test_models_under_the_working_directory_are_found(tmp_path: Path, place: str) -> None:
    """models/<name> is found by the full name, and models/<last part> as well."""
    fill(tmp_path / place)
    assert find_model(NAME, local_files_only=True) == Path(place)


def test_the_full_name_goes_before_the_last_part(tmp_path: Path) -> None:
    """Where both are there, models/OWNER/NAME is meant and not models/NAME."""
    fill(tmp_path / "models" / "NAME-v1")
    fill(tmp_path / "models" / NAME)
    assert find_model(NAME, local_files_only=True) == Path("models") / NAME


@pytest.mark.skipif(not BOX.is_dir() or not any(BOX.iterdir()), reason="models/rerank-mini-en holds no model yet")
def test_the_model_in_the_box_is_found_from_anywhere() -> None:
    """rerank-mini-en needs no path, no cache and no hub, whatever the working directory."""
    assert find_model("rerank-mini-en", local_files_only=True).samefile(BOX)


def test_a_snapshot_in_the_cache_is_found(tmp_path: Path) -> None:
    """A model that the hub's client downloaded earlier is found in its cache."""
    snapshot = fill_cache(tmp_path / "cache")
    assert find_model(NAME, cache_folder=tmp_path / "cache", local_files_only=True) == snapshot


def test_a_revision_in_the_cache_is_found(tmp_path: Path) -> None:
    """A commit is found by itself, and one that is not there is not replaced by another."""
    snapshot = fill_cache(tmp_path / "cache")
    assert find_model(NAME, revision=COMMIT, cache_folder=tmp_path / "cache", local_files_only=True) == snapshot
    with pytest.raises(ModelNotFoundError):
        find_model(NAME, revision="f" * 40, cache_folder=tmp_path / "cache", local_files_only=True)


def test_an_incomplete_snapshot_is_passed_over(tmp_path: Path) -> None:
    """A download that was broken off is not taken for the model; what it lacks is named."""
    fill_cache(tmp_path / "cache", ("config.json",))
    with pytest.raises(ModelNotFoundError, match=r"incomplete, tokenizer\.json and weights.*missing"):
        find_model(NAME, cache_folder=tmp_path / "cache", local_files_only=True)


@pytest.mark.parametrize("weights", ["openvino/openvino_model.xml", "model.safetensors.index.json"])
def test_a_snapshot_with_half_its_weights_is_passed_over(tmp_path: Path, weights: str) -> None:
    """An .xml without its .bin, or an index without its shards, is a download that was broken off."""
    fill_cache(tmp_path / "cache", ("config.json", "tokenizer.json", weights))
    with pytest.raises(ModelNotFoundError, match="incomplete"):
        find_model(NAME, cache_folder=tmp_path / "cache", local_files_only=True)


def test_an_incomplete_snapshot_is_completed(tmp_path: Path, hub_url: str) -> None:
    """With a hub at hand a download that was broken off is carried on."""
    snapshot = fill_cache(tmp_path / "cache", ("config.json",))
    printed = find_in_subprocess(tmp_path, HF_ENDPOINT=hub_url, HF_HUB_CACHE=str(tmp_path / "cache"))
    assert printed.strip() == f"found {snapshot}"


def test_downloads_leave_pickles_on_the_hub(tmp_path: Path, hub_url: str) -> None:
    """Of a repository only configuration, tokenizer and weights are downloaded: no pickles, no other frameworks."""
    printed = find_in_subprocess(tmp_path, HF_ENDPOINT=hub_url)
    folder = Path(printed.strip().removeprefix("found "))
    assert sorted(file.name for file in folder.rglob("*") if not file.is_dir()) == sorted(COMPLETE)


@pytest.mark.parametrize("hub_url", [EmptyHub], indirect=True)
def test_a_model_that_the_hub_does_not_have_is_an_error(tmp_path: Path, hub_url: str) -> None:
    """A name that the hub does not know is said to be missing or private."""
    printed = find_in_subprocess(tmp_path, HF_ENDPOINT=hub_url)
    assert printed.startswith("ModelNotFoundError")
    assert "the hub has no such model, or it is private" in printed


def test_offline_makes_no_network_call(tmp_path: Path) -> None:
    """With HF_HUB_OFFLINE=1 nobody calls the hub, and the error lists the places and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        printed = find_in_subprocess(tmp_path, HF_ENDPOINT=address, HF_HUB_OFFLINE="1")
        with pytest.raises(BlockingIOError):  # nobody waits to be let in
            server.accept()
    assert printed.startswith("ModelNotFoundError")
    for part in (f"folder {NAME}", f"models/{NAME}", "models/NAME-v1", "Hugging Face cache", "HF_HUB_OFFLINE is set"):
        assert part in printed
    assert f"hf download {NAME} --local-dir models/NAME-v1" in printed
    assert "rerank-mini-en" in printed


def test_a_hub_out_of_reach_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Without a network the error says that the hub cannot be reached, and how to get the model."""
    printed = find_in_subprocess(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    assert printed.startswith("ModelNotFoundError")
    assert "the hub cannot be reached" in printed
    assert f"hf download {NAME} --local-dir models/NAME-v1" in printed


def test_an_incomplete_snapshot_without_a_hub_is_not_found(tmp_path: Path) -> None:
    """A broken-off download that cannot be carried on is an error that says so of the hub, too."""
    fill_cache(tmp_path / "cache", ("config.json",))
    printed = find_in_subprocess(tmp_path, HF_ENDPOINT="http://127.0.0.1:9", HF_HUB_CACHE=str(tmp_path / "cache"))
    assert "the hub cannot be reached" in printed


@pytest.mark.parametrize("left_out", COMPLETE)
def test_a_folder_that_lacks_a_file_is_an_error_that_names_it(tmp_path: Path, left_out: str) -> None:
    """A folder that was named and is incomplete is not passed over in silence: the missing file is named."""
    folder = fill(tmp_path / "model", tuple(name for name in COMPLETE if name != left_out))
    with pytest.raises(ModelLoadError, match=f"{re.escape(left_out)}.*missing"):
        find_model(folder)


@pytest.mark.parametrize("name", ["a/b/c", "BAAI/bge reranker", "https://huggingface.co/BAAI/x", "/no/such/folder"])
def test_a_name_that_no_hub_can_have_is_an_error(name: str) -> None:
    """What is neither a folder nor OWNER/NAME is an error that gives the form of a name."""
    with pytest.raises(ModelNotFoundError, match=r"no model name of the hub.*OWNER/NAME"):
        find_model(name)


@pytest.mark.parametrize("name", ["bad..name", "a--b", "-x", "x.git", "~no-such-user/model", "x" * 5000])
def test_a_name_that_the_hub_refuses_is_an_error_of_ours(name: str) -> None:
    """A name that the hub's client or the file system refuses is an error of this package."""
    with pytest.raises(ModelNotFoundError, match="was not found"):
        find_model(name)
