"""What LangSmith's own tracer sends, to a server on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import create_retriever_tool
from langchain_core.tracers import LangChainTracer
from langchain_openai import ChatOpenAI
from langsmith import Client

from langchain_stand_ins import QUERY, CutsLong, Fixed, documents
from llm_server import chat_server
from rerank_plugins.langchain import RerankCompressor, RerankMiddleware

COMPRESSOR = RerankCompressor(reranker=CutsLong(), top_n=2)
CHAIN = RunnableLambda(lambda query: {"documents": documents(), "query": query}) | COMPRESSOR


class _Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.sent.append(json.loads(body or b"{}"))  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("content-length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    do_GET = do_PATCH = do_POST  # noqa: N815 - the standard library's names

    def log_message(self, *args: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def tracer() -> Iterator[tuple[LangChainTracer, list[dict[str, Any]]]]:
    """LangSmith's tracer, and the runs it has sent; read them after the block."""
    sent: list[dict[str, Any]] = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.sent = sent  # type: ignore[attr-defined]
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        client = Client(api_url=f"http://127.0.0.1:{server.server_port}", api_key="none", auto_batch_tracing=False)
        found = LangChainTracer(client=client)
        yield found, sent
        found.wait_for_futures()
        server.shutdown()


def in_an_agent(config: dict[str, Any]) -> None:
    tool = create_retriever_tool(Fixed(held=documents()), "search", "Search.", response_format="content_and_artifact")
    with chat_server() as server:
        model = ChatOpenAI(model="tiny", api_key="none", base_url=f"{server.url}/v1")  # type: ignore[arg-type]
        agent = create_agent(model, [tool], middleware=[RerankMiddleware(COMPRESSOR)])
        agent.invoke({"messages": [("user", QUERY)]}, config)


CALLS = {
    "alone": lambda config: CHAIN.invoke(QUERY, config),
    "with a thread": lambda config: CHAIN.invoke(QUERY, {**config, "configurable": {"thread_id": "7"}}),
    "in an agent": in_an_agent,
    "in an agent with a thread": lambda config: in_an_agent({**config, "configurable": {"thread_id": "7"}}),
}


@pytest.mark.parametrize("name", CALLS)
def test_langsmith_gets_counts_scores_and_truncation(name: str) -> None:
    """The run that is sent at the end has all of them, wherever the compressor runs."""
    with tracer() as (found, sent):
        CALLS[name]({"callbacks": [found]})
    last = [run for run in sent if run.get("name") == "RerankCompressor"][-1]
    metadata = last["extra"]["metadata"]
    assert (metadata["model"], metadata["top_n"]) == ("CutsLong", 2)
    assert (metadata["n_in"], metadata["n_out"], metadata["truncated"]) == (3, 2, [2])
    assert len(metadata["scores"]) == 2
