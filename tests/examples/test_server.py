"""examples/fastapi_server.py: as a process, and under uvicorn in a thread."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import httpx
import pytest
import uvicorn

from fastapi_server import create_app
from rerank_plugins import ClosedError, Reranker, Stats
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker

EXAMPLES = Path(__file__).parents[2] / "examples"

TEXTS = ["Apples are a healthy fruit.", "The iPhone 15 Pro has a frame of titanium."]


@contextmanager
def serving(load: Callable[[], Reranker], deadline: str = "30") -> Iterator[httpx.Client]:
    """The example server under uvicorn, on loopback."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("RERANK_DEADLINE", deadline)
        app = create_app(load)
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=20) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


def ask(client: httpx.Client, documents: list[str], query: str = "What is Apple's phone made of?") -> httpx.Response:
    """One request."""
    return client.post("/rerank", json={"query": query, "documents": documents})


@contextmanager
def start_process() -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The server started by the command in its docstring, on a free port."""
    command = [sys.executable, "-W", "error", "-m", "uvicorn", "fastapi_server:app", "--port", "0", "--ws", "none"]
    with subprocess.Popen(
        command, cwd=EXAMPLES, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stderr is not None
            lines = []
            for line in server.stderr:
                lines.append(line)
                if address := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            with httpx.Client(base_url=address[1], trust_env=False, timeout=20) as client:
                yield server, client
        finally:
            server.terminate()
            server.communicate(timeout=20)


def test_the_documented_command_serves_the_bundled_model_and_ends_cleanly() -> None:
    """The process ranks best first, counts what it did, and ends when it is told to."""
    with start_process() as (server, client):
        ranked = ask(client, TEXTS).json()
        stats = client.get("/stats").json()
    assert [result["index"] for result in ranked] == [1, 0]
    assert ranked[0]["score"] > ranked[1]["score"]
    assert {field.name for field in fields(Stats)} < stats.keys()
    assert (stats["requests"], stats["pairs"], stats["waiting_pairs"]) == (1, 2, 0)
    assert 0 < stats["padding_share"] < 1
    assert server.returncode in {0, -15}  # uvicorn ends itself with the signal it was sent


async def test_the_server_closes_its_reranker() -> None:
    """It is loaded when the app starts, and closed when the app ends."""
    rerankers: list[Reranker] = []

    def load() -> Reranker:
        rerankers.append(toy_reranker())
        return rerankers[-1]

    app = create_app(load)
    assert rerankers == []
    async with app.router.lifespan_context(app):
        assert len(await rerankers[0].arerank("q", ["a"])) == 1
    with pytest.raises(ClosedError):
        rerankers[0].rerank("q", ["a"])


def test_errors_have_a_status_and_a_message() -> None:
    """A blank query is 422 with its message, a failing model 500, and the next request is served."""
    with serving(lambda: toy_reranker(FailingEngine(at=1))) as client:
        blank, broken = ask(client, TEXTS, " "), ask(client, TEXTS)
        assert ask(client, TEXTS).status_code == 200
    assert (blank.status_code, broken.status_code) == (422, 500)
    assert "query is blank" in blank.json()["error"]


def test_requests_beyond_the_queue_are_refused() -> None:
    """Of many clients at once, those beyond the queue get 503 with Retry-After; the others are served."""
    with (
        serving(lambda: toy_reranker(SlowEngine(seconds=0.3), max_queued_pairs=6)) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: ask(client, ["abc", "abd"]), range(8)))
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert "would exceed max_queued_pairs=6" in refused.json()["error"]


def test_the_answer_comes_at_the_deadline() -> None:
    """The documents come back without scores, in retrieval order."""
    with serving(lambda: toy_reranker(SlowEngine(seconds=0.5)), deadline="0.05") as client:
        results = ask(client, TEXTS).json()
    assert results == [{"index": 0, "score": None}, {"index": 1, "score": None}]


def test_a_request_can_have_a_shorter_deadline() -> None:
    """It replaces the server's; an invalid one is 422."""
    with serving(lambda: toy_reranker(SlowEngine(seconds=0.5))) as client:
        body = {"query": "phone", "documents": TEXTS}
        late, wrong = (client.post("/rerank", json={**body, "deadline": seconds}) for seconds in (0.05, 0))
        assert client.get("/healthz").json() == {"status": "ok"}
    assert late.json() == [{"index": 0, "score": None}, {"index": 1, "score": None}]
    assert (wrong.status_code, wrong.json()["error"][:16]) == (422, "deadline must be")


def test_work_for_a_disconnected_client_is_cancelled() -> None:
    """Its remaining documents are not scored, and the next client is served."""
    reranker = toy_reranker(SlowEngine(seconds=0.1), token_budget=40)
    with serving(lambda: reranker) as client:
        with pytest.raises(httpx.ReadTimeout):
            client.post(
                "/rerank", json={"query": "q", "documents": [f"some text {n:04}" for n in range(100)]}, timeout=0.3
            )
        until = time.monotonic() + 5
        while reranker.stats().waiting_pairs and time.monotonic() < until:
            time.sleep(0.01)
        stats = client.get("/stats").json()
        assert (stats["cancelled"], stats["waiting_pairs"], stats["batches"] < 20) == (1, 0, True)
        assert ask(client, ["a", "b"]).status_code == 200
