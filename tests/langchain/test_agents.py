"""A reranked tool and `RerankMiddleware` in agents with a real chat client, which asks a server on loopback."""

from __future__ import annotations

import asyncio
import copy
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, create_retriever_tool, tool
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.tracers.schemas import Run
from langchain_openai import ChatOpenAI

from langchain_stand_ins import QUERY, TEXTS, Fixed, Slow, documents
from llm_server import ANSWER, ChatServer, chat_server
from rerank_plugins import InvalidInputError
from rerank_plugins.langchain import RerankCompressor, RerankMiddleware, RerankRetriever

ASKED = {"messages": [("user", QUERY)]}

Runner = Callable[..., dict[str, Any]]


def search(retriever: Fixed | None = None, response_format: Any = "content_and_artifact") -> BaseTool:
    retriever = retriever or Fixed(held=documents())
    return create_retriever_tool(retriever, "search", "Searches the notes.", response_format=response_format)


@tool
def count(query: str) -> int:
    """Count letters."""
    return len(query)


@pytest.fixture
def server() -> Iterator[ChatServer]:
    with chat_server() as running:
        yield running


@pytest.fixture(params=["invoke", "ainvoke"])
def run(request: pytest.FixtureRequest) -> Runner:
    def invoke(agent: Any, given: Any = ASKED, config: Any = None) -> Any:
        if request.param == "invoke":
            return agent.invoke(given, config)
        return asyncio.run(agent.ainvoke(given, config))

    return invoke


def agent(server: ChatServer, tool: BaseTool, *middleware: RerankMiddleware) -> Any:
    """One whose model calls the tool with what the user said, and answers when it has read the result."""
    model = ChatOpenAI(model="tiny", api_key="none", base_url=f"{server.url}/v1")
    return create_agent(model, [tool], middleware=middleware)


def read(server: ChatServer) -> str:
    """What the model read of the tool's result."""
    _, (_, body) = server.asked
    assert body["messages"][-1]["role"] == "tool"
    text: str = body["messages"][-1]["content"]
    return text


def result(state: dict[str, Any]) -> ToolMessage:
    (message,) = (message for message in state["messages"] if isinstance(message, ToolMessage))
    return message


def test_a_tool_over_the_retriever_gives_the_model_what_was_kept(server: ChatServer, run: Runner) -> None:
    """Without any middleware: the model is offered the tool, reads the two best passages, and answers."""
    retriever = RerankRetriever(base_retriever=Fixed(held=documents()), model="rerank-mini-en", top_n=2)
    state = run(agent(server, create_retriever_tool(retriever, "search", "Searches the notes.")))
    (path, first), _ = server.asked
    assert path == "/v1/chat/completions"
    assert [offered["function"]["name"] for offered in first["tools"]] == ["search"]
    assert read(server) == f"{TEXTS[1]}\n\n{TEXTS[2]}"
    assert state["messages"][-1].text == ANSWER


def test_the_model_reads_the_best_passages_only(server: ChatServer, compressor: RerankCompressor, run: Runner) -> None:
    """Of three passages found the model reads the two that answer best, best first, and answers."""
    state = run(agent(server, search(), RerankMiddleware(compressor)))
    assert read(server) == f"{TEXTS[1]}\n\n{TEXTS[2]}"
    assert state["messages"][-1].text == ANSWER


def test_the_state_holds_what_was_kept(server: ChatServer, compressor: RerankCompressor, run: Runner) -> None:
    """The artifact of the tool's message is the documents kept, each with its score."""
    kept = result(run(agent(server, search(), RerankMiddleware(compressor)))).artifact
    assert [document.id for document in kept] == ["d1", "d2"]
    assert 1 >= kept[0].metadata["relevance_score"] > kept[1].metadata["relevance_score"] >= 0


def test_the_message_stays_the_calls_own(server: ChatServer, compressor: RerankCompressor, run: Runner) -> None:
    """Name, status and the id of the call are what the tool's message had."""
    state = run(agent(server, search(), RerankMiddleware(compressor)))
    (call,) = state["messages"][1].tool_calls
    message = result(state)
    assert (message.name, message.status, message.tool_call_id) == ("search", "success", call["id"])


def test_the_tools_own_documents_stay_as_they_were(
    server: ChatServer, compressor: RerankCompressor, run: Runner
) -> None:
    """A tool that gives out the very objects it holds finds them, and its list, unchanged."""
    retriever = Fixed(held=documents())
    before = copy.deepcopy(retriever.held)
    state = run(agent(server, search(retriever), RerankMiddleware(compressor)))
    assert len(result(state).artifact) == 2
    assert retriever.held == before


def test_the_trace_has_one_rerank_inside_the_agent(
    server: ChatServer, compressor: RerankCompressor, run: Runner
) -> None:
    """There is one tree of runs, the agent's, and the compressor's run is in it exactly once."""
    collector = RunCollectorCallbackHandler()
    run(agent(server, search(), RerankMiddleware(compressor)), config={"callbacks": [collector]})
    (root,) = collector.traced_runs
    (rerank,) = (found for found in below(root) if found.name == "RerankCompressor")
    assert rerank.inputs["query"] == QUERY
    assert (rerank.metadata["n_in"], rerank.metadata["n_out"]) == (3, 2)


def below(run: Run) -> Iterator[Run]:
    for child in run.child_runs:
        yield child
        yield from below(child)


def test_the_event_loop_is_left_free(server: ChatServer) -> None:
    """An agent that is awaited scores on another thread than its event loop's."""
    scorer = Slow()
    made = agent(server, search(), RerankMiddleware(RerankCompressor(reranker=scorer)))
    asyncio.run(made.ainvoke(ASKED))
    assert scorer.threads
    assert threading.get_ident() not in scorer.threads


def test_a_tool_without_documents_is_left_alone(server: ChatServer, compressor: RerankCompressor, run: Runner) -> None:
    """A number that a tool gives reaches the model as it is."""
    state = run(agent(server, count, RerankMiddleware(compressor)))
    assert read(server) == str(len(QUERY))
    assert result(state).artifact is None


def test_a_tool_that_is_not_named_is_left_alone(server: ChatServer, compressor: RerankCompressor, run: Runner) -> None:
    """Where tools= names another, all that this one found reaches the model, in the tool's order."""
    state = run(agent(server, search(), RerankMiddleware(compressor, tools=["other"])))
    assert read(server) == "\n\n".join(TEXTS)
    assert result(state).artifact == documents()


def test_a_retrieval_tool_of_text_alone_is_refused(
    server: ChatServer, compressor: RerankCompressor, run: Runner
) -> None:
    """What create_retriever_tool makes by default stops the agent, and the error says how to make it instead."""
    made = agent(server, search(response_format="content"), RerankMiddleware(compressor))
    with pytest.raises(InvalidInputError, match="response_format='content_and_artifact'"):
        run(made)
    assert len(server.asked) == 1


def test_tools_of_one_agent_may_have_middleware_of_their_own(
    server: ChatServer, compressor: RerankCompressor, run: Runner
) -> None:
    """create_agent takes two of them for different tools, and each reranks its own."""
    first = RerankMiddleware(compressor, tools=["search"])
    second = RerankMiddleware(RerankCompressor(reranker=compressor.reranker, top_n=1), tools=["other"])
    state = run(agent(server, search(), first, second))
    assert len(result(state).artifact) == 2


def python(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)


def test_the_middleware_without_langchain_names_its_extra() -> None:
    """With langchain-core alone the rest imports, and the middleware gives the command that installs the package."""
    blocked = "import sys; sys.modules['langchain'] = None\n"  # as if it were not installed
    imports = "from rerank_plugins.langchain import {}\n"
    done = python(f"{blocked}{imports.format('RerankCompressor')}print('here')\n{imports.format('RerankMiddleware')}")
    assert (done.returncode, done.stdout.strip()) == (1, "here")
    assert "MissingExtraError: RerankMiddleware needs" in done.stderr
    assert "pip install 'rerank-plugins[langchain-agents]'" in done.stderr


def test_only_the_middleware_imports_the_agents_packages() -> None:
    """Who builds no agents waits for neither langchain nor langgraph."""
    program = (
        "import sys, rerank_plugins.langchain as ours\nmine = lambda: {'langchain', 'langgraph'} & sys.modules.keys()\n"
        "print(sorted(mine()))\nours.RerankMiddleware\nprint(sorted(mine()))"
    )
    done = python(program)
    assert done.stdout.splitlines() == ["[]", "['langchain', 'langgraph']"], done.stderr
