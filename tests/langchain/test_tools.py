"""Tools: LangChain's own suites over a reranked one, and what `RerankMiddleware` makes of single calls."""

from __future__ import annotations

from typing import Any, Literal

import pytest
from langchain.agents.middleware import ToolCallRequest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import ConfigurableField
from langchain_core.tools import BaseTool, ToolException, create_retriever_tool, tool
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import ToolsIntegrationTests
from langchain_tests.unit_tests import ToolsUnitTests
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from langchain_stand_ins import QUERY, TEXTS, Fixed, documents
from rerank_plugins import InvalidInputError
from rerank_plugins.langchain import RerankCompressor, RerankMiddleware, RerankRetriever

Format = Literal["content", "content_and_artifact"]

APPLES, PHONE, OAK = TEXTS
# Each of these and QUERY is answered by one passage, so that what stands first tells what was ranked for.
FRUIT = "Which fruit is healthy?"
PICTURE = "What holds the picture?"


def reranked_tool(response_format: Format) -> BaseTool:
    # This embedding knows no words, and puts the passage that answers last.
    store = InMemoryVectorStore(DeterministicFakeEmbedding(size=8))
    store.add_documents(documents())
    retriever = RerankRetriever(base_retriever=store.as_retriever(), model="rerank-mini-en", top_n=2)
    return create_retriever_tool(retriever, "search", "Searches the notes.", response_format=response_format)


class _Reranked:
    @property
    def tool_constructor(self) -> BaseTool:
        """A tool that gives text, and the documents as artifact."""
        return reranked_tool("content_and_artifact")

    @property
    def tool_invoke_params_example(self) -> dict[str, Any]:
        """What an agent gives it."""
        return {"query": QUERY}


class TestUnitSuite(_Reranked, ToolsUnitTests):
    """LangChain's unit suite for tools."""


class TestIntegrationSuite(_Reranked, ToolsIntegrationTests):
    """LangChain's integration suite for tools."""


class TestIntegrationSuiteOfText(TestIntegrationSuite):
    """The same for what create_retriever_tool makes by default."""

    @property
    def tool_constructor(self) -> BaseTool:
        """A tool that gives text alone."""
        return reranked_tool("content")


@pytest.mark.parametrize("response_format", ["content", "content_and_artifact"])
def test_the_tool_gives_the_best_passages(response_format: Format) -> None:
    """A tool over the retriever gives the passages kept, best first."""
    call = {"name": "search", "args": {"query": QUERY}, "id": "1", "type": "tool_call"}
    assert reranked_tool(response_format).invoke(call).content == f"{PHONE}\n\n{OAK}"


def search(name: str = "search", response_format: Format = "content_and_artifact") -> BaseTool:
    retriever = Fixed(held=documents())
    return create_retriever_tool(retriever, name, "Searches the notes.", response_format=response_format)


@tool(response_format="content_and_artifact")
def find(
    query: str | list[str] = "",
    topic: str = "",
    place: str = "",
    limit: int = 3,
) -> tuple[str, list[Document]]:
    """Find by any of these."""
    return f"{query} {topic} {place}", documents()[:limit]


def results(
    middleware: RerankMiddleware, tool: BaseTool, *asked: dict[str, Any], said: list[AnyMessage] | None = None
) -> list[ToolMessage]:
    """What becomes of calls with these arguments, in the node in which an agent does its calls."""
    node = ToolNode([tool], wrap_tool_call=middleware.wrap_tool_call)
    graph = StateGraph(MessagesState).add_node("tools", node).add_edge(START, "tools").compile()
    calls = [{"name": tool.name, "args": arguments, "id": str(n)} for n, arguments in enumerate(asked)]
    messages = [*(said or [HumanMessage(QUERY)]), AIMessage("", tool_calls=calls)]
    state = graph.invoke({"messages": messages})
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


def first(message: ToolMessage) -> str:
    """The passage that was ranked first."""
    document = message.artifact[0]
    assert document.metadata["relevance_score"] > 0.5
    text: str = document.page_content
    return text


def test_the_tools_that_are_named_are_reranked(compressor: RerankCompressor) -> None:
    """Each name in tools= counts, at every call, even where an iterator gave them."""
    middleware = RerankMiddleware(compressor, tools=iter(["notes", "search"]))
    assert first(*results(middleware, search("search"), {"query": QUERY})) == PHONE
    assert first(*results(middleware, search("notes"), {"query": QUERY})) == PHONE


def test_text_alone_passes_where_other_tools_are_named(compressor: RerankCompressor) -> None:
    """What the error about text alone advises works: with other tools named, the text is left as it is."""
    (found,) = results(
        RerankMiddleware(compressor, tools=["other"]), search(response_format="content"), {"query": QUERY}
    )
    assert found.content == "\n\n".join(TEXTS)


def test_a_named_tool_without_documents_is_refused(compressor: RerankCompressor) -> None:
    """A tool of any kind that is named in tools= must give something to rerank."""

    @tool
    def count(query: str) -> int:
        """Count letters."""
        return len(query)

    with pytest.raises(InvalidInputError, match=r"'count' gave no list of Documents .*got NoneType"):
        results(RerankMiddleware(compressor, tools=["count"]), count, {"query": QUERY})


def test_an_artifact_of_something_else_is_left_alone(compressor: RerankCompressor) -> None:
    """A list that holds one thing that is no Document is the tool's own affair."""
    mixed = [Document(PHONE), "a string"]

    @tool(response_format="content_and_artifact")
    def plot(query: str) -> tuple[str, list[Any]]:
        """Plot."""
        return query, mixed

    (found,) = results(RerankMiddleware(compressor), plot, {"query": QUERY})
    assert (found.content, found.artifact) == (QUERY, mixed)


def test_a_tuple_of_documents_is_reranked(compressor: RerankCompressor) -> None:
    """Documents may come in a tuple."""

    @tool(response_format="content_and_artifact")
    def pick(query: str) -> tuple[str, tuple[Document, ...]]:
        """Pick."""
        return query, tuple(documents())

    assert first(*results(RerankMiddleware(compressor), pick, {"query": QUERY})) == PHONE


@pytest.mark.parametrize("tools", [None, ["find"]])
def test_nothing_found_is_left_alone(tools: list[str] | None) -> None:
    """A tool that found nothing keeps its own words, and a model that does not exist is never looked for."""
    middleware = RerankMiddleware(RerankCompressor(model="no/such-model"), tools=tools)
    (found,) = results(middleware, find, {"query": "gold", "topic": "a", "place": "b", "limit": 0})
    assert (found.content, found.artifact) == ("gold a b", [])


@pytest.mark.parametrize("tools", [None, ["search"]])
def test_an_error_of_the_tool_is_left_alone(compressor: RerankCompressor, tools: list[str] | None) -> None:
    """The model reads the tool's own error, and no complaint that documents are missing."""

    class Broken(Fixed):
        def _get_relevant_documents(self, query: str, **_: Any) -> list[Document]:
            raise ToolException(f"no index for {query}")

    broken = create_retriever_tool(Broken(held=[]), "search", "Searches.")
    broken.handle_tool_error = True
    (found,) = results(RerankMiddleware(compressor, tools=tools), broken, {"query": QUERY})
    assert (found.status, found.content) == ("error", f"no index for {QUERY}")


def test_a_command_is_left_alone(compressor: RerankCompressor) -> None:
    """What a tool that writes the state itself writes is not touched; if it is named, that is an error."""

    @tool
    def steer(query: str) -> Command[Any]:
        """Steer."""
        return Command(update={"messages": [ToolMessage(query, tool_call_id="0", artifact=documents())]})

    (found,) = results(RerankMiddleware(compressor), steer, {"query": QUERY})
    assert (found.content, found.artifact) == (QUERY, documents())
    with pytest.raises(InvalidInputError, match=r"'steer' gave no list of Documents .*got Command"):
        results(RerankMiddleware(compressor, tools=["steer"]), steer, {"query": QUERY})


def test_a_tool_that_the_node_does_not_know_is_left_alone(compressor: RerankCompressor) -> None:
    """Text that another middleware gives for a tool of its own passes."""
    call = {"name": "own", "args": {}, "id": "0", "type": "tool_call"}
    request = ToolCallRequest(tool_call=call, tool=None, state={"messages": []}, runtime=None)
    answered = ToolMessage("text", tool_call_id="0")
    assert RerankMiddleware(compressor).wrap_tool_call(request, lambda _: answered) is answered


@pytest.mark.parametrize(
    ("options", "expected"),
    [({}, PHONE), ({"question": "tool_call"}, PHONE), ({"question": "user"}, APPLES)],
    ids=["by default", "tool_call", "user"],
)
def test_whose_question_counts(compressor: RerankCompressor, options: dict[str, Any], expected: str) -> None:
    """The agent's question to the tool by default; what a human said last, where it is asked for."""
    said = [HumanMessage(PICTURE), AIMessage("Oak."), HumanMessage(FRUIT)]
    middleware = RerankMiddleware(compressor, **options)
    assert first(*results(middleware, search(), {"query": QUERY}, said=said)) == expected


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param({"topic": FRUIT, "query": PICTURE, "place": FRUIT}, OAK, id="query before other strings"),
        pytest.param({"limit": 3, "topic": FRUIT}, APPLES, id="the only string"),
        pytest.param({"topic": FRUIT, "place": FRUIT}, PHONE, id="two strings"),
        pytest.param({"limit": 3}, PHONE, id="no string"),
        pytest.param({"query": "  "}, PHONE, id="a blank query"),
        pytest.param({"query": [FRUIT]}, PHONE, id="a query that is no string"),
    ],
)
def test_which_argument_is_the_question(compressor: RerankCompressor, arguments: dict[str, Any], expected: str) -> None:
    """The argument query, else the only string argument, else what a human said last."""
    assert first(*results(RerankMiddleware(compressor), find, arguments)) == expected


def test_each_call_is_ranked_for_its_own_question(compressor: RerankCompressor) -> None:
    """Two calls in one turn get different passages first."""
    found = results(RerankMiddleware(compressor), search(), {"query": FRUIT}, {"query": PICTURE})
    assert [first(message) for message in found] == [APPLES, OAK]


def test_a_human_message_of_blocks_counts_by_its_text(compressor: RerankCompressor) -> None:
    """A picture beside the words does not get into the question."""
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
    said = [HumanMessage([image, {"type": "text", "text": FRUIT}])]
    found = results(RerankMiddleware(compressor, question="user"), search(), {"query": QUERY}, said=said)
    assert first(*found) == APPLES


def test_a_user_without_words_leaves_it_to_the_tools_question(compressor: RerankCompressor) -> None:
    """A picture alone is passed over for what was said before it, and for the tool call if nothing was."""
    image = HumanMessage([{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}])
    middleware = RerankMiddleware(compressor, question="user")
    assert first(*results(middleware, search(), {"query": QUERY}, said=[HumanMessage(FRUIT), image])) == APPLES
    assert first(*results(middleware, search(), {"query": QUERY}, said=[image])) == PHONE


def test_a_summary_is_not_what_the_user_said(compressor: RerankCompressor) -> None:
    """LangChain's summary of a conversation, a human message by its class, is not the question."""
    summary = HumanMessage(PICTURE, additional_kwargs={"lc_source": "summarization"})
    said = [HumanMessage(FRUIT), summary]
    found = results(RerankMiddleware(compressor, question="user"), search(), {"query": QUERY}, said=said)
    assert first(*found) == APPLES


def test_without_any_question_the_error_is_ours(compressor: RerankCompressor) -> None:
    """Where the tool was asked nothing and no human spoke, the error says that the query is blank."""
    with pytest.raises(InvalidInputError, match="query is blank"):
        results(RerankMiddleware(compressor), find, {"limit": 3}, said=[SystemMessage("Work.")])


def test_a_prompt_of_ones_own_can_show_metadata_and_score(compressor: RerankCompressor) -> None:
    """document_prompt and document_separator make the text, the score included, and leave the artifact alone."""
    prompt = PromptTemplate.from_template("{source} {page_content} {relevance_score}")
    middleware = RerankMiddleware(compressor, document_prompt=prompt, document_separator="\n--\n")
    (found,) = results(middleware, search(), {"query": QUERY})
    scores = [document.metadata["relevance_score"] for document in found.artifact]
    assert found.content == f"{{'page': 1}} {PHONE} {scores[0]}\n--\n{{'page': 2}} {OAK} {scores[1]}"
    assert [document.page_content for document in found.artifact] == [PHONE, OAK]


def test_where_nothing_is_relevant_the_model_reads_that(compressor: RerankCompressor) -> None:
    """A threshold that leaves none gives a sentence and no documents; the sentence can be chosen."""
    strict = RerankCompressor(reranker=compressor.reranker, score_threshold=1.0)
    (found,) = results(RerankMiddleware(strict), search(), {"query": QUERY})
    assert (found.content, found.artifact) == ("No relevant documents were found.", [])
    (found,) = results(RerankMiddleware(strict, empty_text="-"), search(), {"query": QUERY})
    assert found.content == "-"


def test_a_configurable_compressor_is_taken(compressor: RerankCompressor) -> None:
    """What with_retry and configurable_fields make of a compressor reranks as well."""
    configurable = compressor.configurable_fields(top_n=ConfigurableField(id="top_n"))
    for given in (configurable, compressor.with_retry()):
        assert first(*results(RerankMiddleware(given), search(), {"query": QUERY})) == PHONE


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"tools": "search"}, r"names such as \['search'\], or None; got 'search'"),
        ({"tools": 5}, "or None; got 5"),
        ({"question": "human"}, "'tool_call' or 'user', got 'human'"),
        ({"compressor": "rerank-mini-en"}, "must be a RerankCompressor, got str"),
    ],
)
def test_wrong_settings_are_refused(compressor: RerankCompressor, wrong: dict[str, Any], message: str) -> None:
    """One name as a string, a question that is none, and a model's name are errors when the middleware is made."""
    with pytest.raises(InvalidInputError, match=message):
        RerankMiddleware(**{"compressor": compressor, **wrong})
