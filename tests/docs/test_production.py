"""What docs/production.md says beside its code, and its server as a process of its own."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from pathlib import Path

import httpx
import pytest

from doc_pages import DOCS
from rerank_plugins import ClosedError, Reranker, load_reranker
from rerank_plugins._internal.telemetry import CallMetrics
from rerank_plugins.inference.scheduler import PATIENCE
from rerank_plugins.langchain import RerankCompressor, RerankRetriever
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.scorers.scoring_call import STEP
from rerank_plugins.testing import toy_reranker

sys.path.insert(0, str(Path(__file__).parents[2] / "examples"))
from fastapi_server import create_app

EXAMPLES = DOCS.parent / "examples"
PAGE = (DOCS / "production.md").read_text(encoding="utf-8")


@contextmanager
def process() -> Iterator[tuple[subprocess.Popen[str], httpx.Client]]:
    """The server as its first lines say to run it, on a free port."""
    command = [sys.executable, "-W", "error", "-m", "uvicorn", "fastapi_server:app", "--port", "0", "--ws", "none"]
    with subprocess.Popen(
        command, cwd=EXAMPLES, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stderr is not None
            lines = []
            for line in server.stderr:
                lines.append(line)
                if found := re.search(r"running on (http://127\.0\.0\.1:\d+)", line):
                    break
            else:
                pytest.fail("".join(lines))
            with httpx.Client(base_url=found[1], trust_env=False, timeout=20) as client:
                yield server, client
        finally:
            server.terminate()
            server.communicate(timeout=20)


def test_the_server_starts_as_it_says() -> None:
    """One command serves the model in the box, counts, and ends cleanly when it is told to."""
    with process() as (server, client):
        body = {
            "query": "a phone of titanium",
            "documents": ["apples are healthy", "the phone has a frame of titanium"],
        }
        assert [one["index"] for one in client.post("/rerank", json={**body, "top_n": 1}).json()] == [1]
        stats = client.get("/stats").json()
    assert (stats["pairs"], stats["waiting_pairs"]) == (2, 0)
    assert 0 < stats["padding_share"] < 1
    assert server.returncode in {0, -15}  # uvicorn ends itself with the signal it was sent


async def test_the_server_closes_its_reranker() -> None:
    """It is loaded when the app starts, and ends with it."""
    made: list[Reranker] = []

    def load() -> Reranker:
        made.append(toy_reranker())
        return made[-1]

    app = create_app(load)
    assert made == []
    async with app.router.lifespan_context(app):
        assert len(await made[0].arerank("q", ["a"])) == 1
    with pytest.raises(ClosedError):
        made[0].rerank("q", ["a"])


def test_the_numbers_on_the_page_are_the_codes_own() -> None:
    """Patience, the queue's default and the step of a scorer of one's own are named as they are."""
    queued = signature(load_reranker).parameters["max_queued_pairs"].default
    assert f"leads a batch after {PATIENCE} others" in " ".join(PAGE.split())
    assert f"({queued:,} unless you say otherwise)" in PAGE
    assert f"{STEP} documents at a time" in PAGE


def test_the_page_names_every_attribute_of_a_span() -> None:
    """What a trace shows is explained, in full or without the prefix that they share."""
    names = [name.removeprefix("rerank_plugins") for name in CallMetrics().attributes()]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("adapter", [RerankCompressor, RerankRetriever, RerankPostprocessor])
def test_deadlines_and_fallbacks_are_fields_of_the_adapters(adapter: type[RerankCompressor]) -> None:
    """All three have the defaults of Reranker.rerank, as the page has it."""
    fields, parameters = adapter.model_fields, signature(Reranker.rerank).parameters
    for name in ("deadline", "on_deadline", "on_error"):
        assert f"`{name}" in PAGE
        assert fields[name].default == parameters[name].default
