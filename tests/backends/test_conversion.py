"""Where conversions are kept, and what several processes do that want the same one."""

from __future__ import annotations

import logging
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import openvino
import pytest

from rerank_plugins import MissingExtraError, ModelLoadError, Pair
from rerank_plugins.backends import load_engine
from rerank_plugins.hub.cache_dirs import cache_root, conversion_folder, lock_path
from rerank_plugins.hub.folder import OPENVINO_FILE
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


@pytest.fixture
def snapshot(fresh_bert: Path, tmp_path: Path) -> Path:
    """The BERT stand-in as it lies in a Hugging Face cache."""
    folder = tmp_path / "hub" / "models--OWNER--NAME" / "snapshots" / "0123abc"
    return Path(shutil.copytree(fresh_bert, folder))


def test_a_folder_of_ones_own_keeps_its_conversion(fresh_bert: Path) -> None:
    """Beside the weights, where it can be copied with them."""
    assert conversion_folder(fresh_bert) == fresh_bert


def test_a_hub_models_conversion_is_kept_in_our_cache(
    snapshot: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the folder that RERANK_PLUGINS_CACHE names, by repository and revision; the snapshot stays as it was."""
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "ours"))
    before = sorted(snapshot.rglob("*"))
    load_engine(snapshot, engine="openvino", precision="fp32")
    assert (tmp_path / "ours" / "converted" / "models--OWNER--NAME--0123abc" / OPENVINO_FILE).is_file()
    assert sorted(snapshot.rglob("*")) == before


def test_a_hub_model_is_converted_once(snapshot: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The second load reads the cache; other weights under the same revision are converted again."""
    load_engine(snapshot, engine="openvino", precision="fp32")
    caplog.clear()
    load_engine(snapshot, engine="openvino", precision="fp32")
    assert "Converting" not in caplog.text
    with (snapshot / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\0\0\0\0")
    load_engine(snapshot, engine="openvino", precision="fp32")
    assert "Converting" in caplog.text


def test_the_cache_is_the_users_unless_it_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """RERANK_PLUGINS_CACHE first, then the system's cache folder, then ~/.cache."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", "~/mine")
    assert cache_root() == tmp_path / "home" / "mine"
    monkeypatch.delenv("RERANK_PLUGINS_CACHE")
    assert cache_root() == tmp_path / "xdg" / "rerank-plugins"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_root() == tmp_path / "home" / ".cache" / "rerank-plugins"


def test_two_threads_convert_once(fresh_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Of two loads that start together one converts, and the other reads what that one made."""
    start = threading.Barrier(2)

    def load(_: int) -> None:
        start.wait(timeout=10)
        load_engine(fresh_bert, engine="openvino", precision="fp32")

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(load, range(2)))
    assert sum("Converting " in record.getMessage() for record in caplog.records) == 1


@pytest.mark.slow
def test_two_processes_convert_once(fresh_bert: Path) -> None:
    """Of two that start together one converts and says so; both score."""
    program = (
        "import logging; logging.basicConfig(level='WARNING'); from rerank_plugins import load_reranker; "
        f"print(load_reranker({str(fresh_bert)!r}, engine='openvino', precision='fp32').scorer.score([('a', 'b')]))"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    done = [process.communicate(timeout=120) for process in both]
    assert [process.returncode for process in both] == [0, 0], done
    assert done[0][0] == done[1][0]
    assert sum("Converting " in errors for _, errors in done) == 1


def test_a_conversion_waits_for_another(fresh_bert: Path, caplog: pytest.LogCaptureFixture) -> None:
    """While a process holds the lock, another says that it waits, and goes on when the lock is free."""
    path = lock_path(fresh_bert)
    path.parent.mkdir(parents=True, exist_ok=True)
    program = (
        "import sys, time; from filelock import FileLock\n"
        "with FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.readline()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        class Releases(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                if "waiting" in record.getMessage() and holder.stdin is not None:
                    holder.stdin.write("\n")
                    holder.stdin.flush()

        handler = Releases()
        logging.getLogger("rerank_plugins").addHandler(handler)
        try:
            load_engine(fresh_bert, engine="openvino", precision="fp32")
        finally:
            logging.getLogger("rerank_plugins").removeHandler(handler)
    assert "Another process is converting the same model" in caplog.text


def test_a_place_that_cannot_be_locked_is_no_obstacle(
    fresh_bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the cache cannot be made the model is converted all the same, and a warning says what that means."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("RERANK_PLUGINS_CACHE", str(tmp_path / "file" / "below"))
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert "cannot be locked" in caplog.text
    assert (fresh_bert / OPENVINO_FILE).is_file()


def test_a_full_disk_is_noticed_before_writing(
    fresh_bert: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where there is no room the model works from memory, nothing is written, and both sizes are named."""
    usage = shutil.disk_usage(fresh_bert)
    monkeypatch.setattr("shutil.disk_usage", lambda _: usage._replace(free=1000))
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert "GB and 0.00 GB are free" in caplog.text
    assert list((fresh_bert / "openvino").iterdir()) == []


def test_the_space_that_is_asked_for_is_what_is_written(fresh_bert: Path) -> None:
    """The estimate is within a tenth of the file of weights."""
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    model = openvino.Core().read_model(fresh_bert / OPENVINO_FILE)
    needed = sum(op.get_byte_size() for op in model.get_ops() if op.get_type_name() == "Constant")
    assert needed == pytest.approx((fresh_bert / OPENVINO_FILE).with_suffix(".bin").stat().st_size, rel=0.1)


def files_under(folder: Path) -> dict[str, int]:
    """Every file in the folder and when it was written."""
    return {file.name: file.stat().st_mtime_ns for file in folder.rglob("*") if file.is_file()}


def test_the_first_load_keeps_its_conversion(fresh_bert: Path) -> None:
    """Converting leaves the OpenVINO files and a note of their origin beside the weights, and no scratch."""
    before = files_under(fresh_bert)
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    kept = {"openvino_model.xml", "openvino_model.bin", "converted_from.json"}
    assert {file.name for file in (fresh_bert / "openvino").iterdir()} == kept
    assert before.items() <= files_under(fresh_bert).items()


def test_the_second_load_does_not_convert(fresh_bert: Path) -> None:
    """A folder that was converted is read as it is: nothing is written, and the torch weights are not needed."""
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    before = files_under(fresh_bert)
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert files_under(fresh_bert) == before
    (fresh_bert / "model.safetensors").unlink()
    load_engine(fresh_bert, engine="openvino", precision="fp32")


def test_a_conversion_that_fails_leaves_nothing(fresh_bert: Path) -> None:
    """After damaged weights there is no half an OpenVINO file that the next load would read."""
    (fresh_bert / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(ModelLoadError):
        load_engine(fresh_bert, engine="openvino", precision="fp32")
    assert not list(fresh_bert.rglob("*.xml"))
    assert not list(fresh_bert.rglob(".converting-*"))


def test_a_conversion_that_cannot_be_kept_is_used(
    fresh_bert: Path, load_scorer: LoadScorer, pairs: list[Pair], caplog: pytest.LogCaptureFixture
) -> None:
    """Where the folder cannot be written to the model works from memory, and a warning says so."""
    (fresh_bert / "openvino").write_text("a file, so that no folder can be made")
    scores = load_scorer(fresh_bert, "openvino").score(pairs)
    assert scores == pytest.approx(load_scorer(fresh_bert, "torch").score(pairs), abs=1e-3)
    assert "cannot be kept" in caplog.text


def test_a_conversion_without_torch_is_refused(fresh_bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch weights for the CPU without torch are an error with the command that installs it."""
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match=r"converting.*pip install 'rerank-plugins\[torch\]'"):
        load_engine(fresh_bert, engine="openvino", precision="fp32")
