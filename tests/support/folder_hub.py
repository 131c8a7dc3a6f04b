"""A hub on this machine that has one model, the files of a folder; and the cache that the hub's client makes of it."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME = "OWNER/NAME"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

PROGRAM = """
import sys, json
from rerank_plugins import RerankError, load_reranker
try:
    reranker = load_reranker({name!r}, precision="fp32", device="cpu")
    print(json.dumps(reranker.scorer.score([tuple(pair) for pair in json.load(sys.stdin)])))
except RerankError as error:
    print(f"{{type(error).__name__}}: {{error}}")
"""


def files_of(folder: Path) -> dict[str, Path]:
    """Its files by their names in a repository."""
    return {file.relative_to(folder).as_posix(): file for file in sorted(folder.rglob("*")) if file.is_file()}


def link_into_cache(folder: Path, cache: Path, *left_out: str) -> Path:
    """A snapshot of ``folder`` as huggingface_hub lays it out: every file is a link into a folder of blobs."""
    repository = cache / f"models--{NAME.replace('/', '--')}"
    for place in ("refs", "blobs"):
        (repository / place).mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT, encoding="utf-8")
    snapshot = repository / "snapshots" / COMMIT
    for name, file in files_of(folder).items():
        if name not in left_out:
            blob = repository / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            blob.write_bytes(file.read_bytes())
            link = snapshot / name
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot


class Hub:
    """Where it answers, and the names of the files that were fetched from it."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.fetched: list[str] = []

    def score(self, home: Path, pairs: Any, *, blocked: tuple[str, ...] = (), **environment: str) -> str:
        """What loading the model by its name prints, in a Python whose hub is this one: logits, or an error."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
        prelude = "".join(f"import sys; sys.modules[{name!r}] = None\n" for name in blocked)
        done = subprocess.run(
            [sys.executable, "-c", prelude + PROGRAM.format(name=NAME)],
            env={
                **clean,
                "HF_HOME": str(home),
                "HF_ENDPOINT": self.url,
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **environment,
            },
            cwd=home,
            input=json.dumps(pairs),
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


class _Handler(http.server.BaseHTTPRequestHandler):
    """The parts of the hub's interface that a download uses."""

    server: _Server

    def do_HEAD(self) -> None:
        """As GET, without the body."""
        self.do_GET()

    def do_GET(self) -> None:
        """The model's commit, its file list, a file, or the hub's way to say no."""
        files = self.server.files
        path = self.path.partition("?")[0]
        name = path.partition(f"/resolve/{COMMIT}/")[2]
        if path in {f"/api/models/{NAME}", f"/api/models/{NAME}/revision/main"}:
            siblings = [{"rfilename": name} for name in files]
            self._answer(json.dumps({"id": NAME, "sha": COMMIT, "siblings": siblings}).encode())
        elif path.startswith(f"/api/models/{NAME}/tree/"):
            sizes = {name: file.stat().st_size for name, file in files.items()}
            entries = [{"type": "file", "path": name, "size": size, "oid": name} for name, size in sizes.items()]
            self._answer(json.dumps(entries).encode())
        elif name in files:
            content = files[name].read_bytes()
            if self.command == "GET":
                self.server.hub.fetched.append(name)
            self._answer(content, {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"'})
        else:
            self._answer(b"", {"X-Error-Code": "EntryNotFound"}, status=404)

    def _answer(self, body: bytes, headers: dict[str, str] | None = None, status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class _Server(http.server.ThreadingHTTPServer):
    def __init__(self, files: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = files
        self.hub = Hub(f"http://127.0.0.1:{self.server_port}")


@contextmanager
def serving(folder: Path) -> Iterator[Hub]:
    """A hub whose one model is ``folder``."""
    with _Server(files_of(folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.hub
        server.shutdown()
