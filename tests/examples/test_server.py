"""docs/production.md runs as it stands, and so does the server beside it."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn

from doc_pages import DOCS, names_left_by
from rerank_plugins import Reranker, Stats, load_reranker
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from fastapi_server import create_app

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


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's code leaves behind."""
    return names_left_by("production.md")


def test_the_page_runs(names: dict[str, Any]) -> None:
    """Its calls rank, are late, and keep the order, as it says."""
    assert names["results"][0].index == 1
    assert names["unscored"] == []
    assert [result.score for result in names["late"] + names["unranked"]] == [None] * 4
    assert names["printed"][0].startswith("2 requests, 4 pairs, ")
    names["reranker"].close()


def test_the_page_names_every_counter_and_instrument() -> None:
    """Nothing that can be watched is left unexplained."""
    page = (DOCS / "production.md").read_text(encoding="utf-8")
    assert [field.name for field in fields(Stats) if f"`{field.name}`" not in page] == []
    source = (DOCS.parent / "src" / "rerank_plugins" / "_internal" / "telemetry.py").read_text(encoding="utf-8")
    instruments = [part.split('"')[1] for part in source.split("meter.create_")[1:]]
    assert len(instruments) == 4
    assert [name for name in instruments if f"`{name}`" not in page] == []


def test_the_server_ranks() -> None:
    """Documents come back best first with their scores, and the counters show it."""
    with serving(lambda: load_reranker("rerank-mini-en")) as client:
        found = ask(client, TEXTS).json()
        stats = client.get("/stats").json()
    assert [one["index"] for one in found] == [1, 0]
    assert found[0]["score"] > found[1]["score"]
    assert {field.name for field in fields(Stats)} < stats.keys()
    assert (stats["requests"], stats["pairs"]) == (1, 2)


def test_the_server_says_what_is_wrong() -> None:
    """A blank query is the client's error, a failing model the server's, each with our words."""
    with serving(lambda: toy_reranker(FailingEngine(at=1))) as client:
        blank, broken = ask(client, TEXTS, " "), ask(client, TEXTS)
        assert ask(client, TEXTS).status_code == 200
    assert (blank.status_code, broken.status_code) == (422, 500)
    assert "query is blank" in blank.json()["error"]


def test_the_server_refuses_what_it_cannot_hold() -> None:
    """Of many clients at once those beyond the queue get 503 and when to come again; the others are served."""
    with (
        serving(lambda: toy_reranker(SlowEngine(seconds=0.3), max_queued_pairs=6)) as client,
        ThreadPoolExecutor(8) as pool,
    ):
        answers = list(pool.map(lambda _: ask(client, ["abc", "abd"]), range(8)))
    assert {answer.status_code for answer in answers} == {200, 503}
    refused = next(answer for answer in answers if answer.status_code == 503)
    assert refused.headers["retry-after"] == "1"
    assert "would exceed max_queued_pairs=6" in refused.json()["error"]


def test_the_server_answers_in_time() -> None:
    """At its deadline it gives the documents without scores, in retrieval order."""
    with serving(lambda: toy_reranker(SlowEngine(seconds=0.5)), deadline="0.05") as client:
        found = ask(client, TEXTS).json()
    assert found == [{"index": 0, "score": None}, {"index": 1, "score": None}]


def test_a_request_can_have_less_time() -> None:
    """Its own deadline counts where it is shorter than the server's, and one that cannot be is its error."""
    with serving(lambda: toy_reranker(SlowEngine(seconds=0.5))) as client:
        body = {"query": "phone", "documents": TEXTS}
        late, wrong = (client.post("/rerank", json={**body, "deadline": seconds}) for seconds in (0.05, 0))
        assert client.get("/healthz").json() == {"status": "ok"}
    assert late.json() == [{"index": 0, "score": None}, {"index": 1, "score": None}]
    assert (wrong.status_code, wrong.json()["error"][:16]) == (422, "deadline must be")


def test_the_server_drops_what_a_client_left() -> None:
    """Who hangs up has its documents forgotten, and the next client is served."""
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
