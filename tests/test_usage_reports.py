"""OpenVINO and nncf report their use over the network; here they do not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

# What would be a report: a name looked up, a connection, another process; and what it leaves is a file in HOME.
WATCH = """
import sys
seen = []
def watch(event, args):
    if event in ("socket.getaddrinfo", "socket.connect", "os.fork", "os.posix_spawn", "subprocess.Popen"):
        seen.append((event, *args[:2]))
sys.addaudithook(watch)
"""
RANK = """
from rerank_plugins import load_reranker
assert load_reranker("rerank-mini-en").rerank("a phone", ["apples", "a phone"])[0].index == 1
"""
EXPORT = """
from rerank_plugins.export import export_model
export_model(sys.argv[1], "int8", max_queries=4)
"""


@pytest.mark.parametrize(
    "code",
    [
        pytest.param(f"import rerank_plugins, openvino\n{RANK}", id="openvino imported by the user"),
        pytest.param(RANK, id="load and rank"),
        pytest.param(RANK + EXPORT, id="load, convert and export", marks=pytest.mark.slow),  # 16 s
        pytest.param(f"import rerank_plugins, nncf\n{EXPORT}", id="nncf imported by the user", marks=pytest.mark.slow),
    ],
)
def test_nothing_is_sent_and_nothing_is_written_to_home(fresh_bert: Path, tmp_path: Path, code: str) -> None:
    """No file in an empty HOME, no name looked up, no connection, no process."""
    home = tmp_path / "home"
    home.mkdir()
    # Both are silent of themselves where they find a CI or pytest.
    environment = {name: value for name, value in os.environ.items() if "CI" not in name and "PYTEST" not in name}
    subprocess.run(
        [sys.executable, "-c", f"{WATCH}\n{code}\nassert not seen, seen", str(fresh_bert)],
        env={**environment, "HOME": str(home)},
        check=True,
        timeout=300,
        capture_output=True,
        text=True,
    )
    assert not [path.name for path in home.iterdir()]
