"""`RerankMiddleware`: reranks the documents that an agent's retrieval tools return."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Literal

from langchain_core.documents import Document
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.prompts import BasePromptTemplate, PromptTemplate, format_document
from langchain_core.runnables import Runnable
from langchain_core.tools.retriever import RetrieverInput

from rerank_plugins._internal.blank import is_blank
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.langchain.compressor import RerankInput

try:
    from langchain.agents.middleware import AgentMiddleware
    from langchain.agents.middleware.types import ToolCallRequest
    from langgraph.types import Command
except ImportError as exc:
    raise MissingExtraError("langchain-agents", "RerankMiddleware", "langchain") from exc


class RerankMiddleware(AgentMiddleware[Any, Any, Any]):
    """For ``create_agent(model, tools, middleware=[RerankMiddleware(compressor)])``.

    A tool result that carries its Documents as artifact, as ``create_retriever_tool(...,
    response_format="content_and_artifact")`` makes it, comes out with those that the compressor keeps, best first, in
    the artifact and in the text that the model reads. Other results are passed on unchanged.

    Raises:
        InvalidInputError: A retrieval tool gave text without Documents, so there is nothing to rerank.
        ScoringError, ModelNotFoundError, ModelLoadError: From the compressor.
    """

    def __init__(
        self,
        compressor: Runnable[RerankInput, list[Document]],
        *,
        tools: Iterable[str] | None = None,
        question: Literal["tool_call", "user"] = "tool_call",
        document_prompt: BasePromptTemplate[str] | None = None,
        document_separator: str = "\n\n",
        empty_text: str = "No relevant documents were found.",
    ) -> None:
        """Wrap a compressor.

        Args:
            compressor: A `RerankCompressor`, or one with ``configurable_fields``, retries or fallbacks. Its
                ``top_n`` is what the model gets to read.
            tools: Names of the tools to rerank; None means every one that returns Documents.
            question: The query to rank for. ``"tool_call"``: the tool's argument ``query``, else its only string
                argument. ``"user"``: the last human message. Where the one has no text, the other is used.
            document_prompt: How a Document becomes text, ``"{page_content}"`` by default; as in
                ``create_retriever_tool``, whose own text this one replaces.
            document_separator: The text between two documents, as in ``create_retriever_tool``.
            empty_text: What the model reads where ``score_threshold`` keeps no document.
        """
        super().__init__()
        if not isinstance(compressor, Runnable):
            raise InvalidInputError(f"compressor must be a RerankCompressor, got {type(compressor).__name__}.")
        if isinstance(tools, str) or not isinstance(tools, Iterable | None):
            raise InvalidInputError(f"tools must be names such as ['search'], or None; got {tools!r}.")
        if question not in ("tool_call", "user"):
            raise InvalidInputError(f"question must be 'tool_call' or 'user', got {question!r}.")
        self.compressor = compressor
        self._names = None if tools is None else frozenset(tools)
        self._question = question
        self._prompt = document_prompt or PromptTemplate.from_template("{page_content}")
        self._separator = document_separator
        self._empty_text = empty_text

    @property
    def name(self) -> str:
        """Also the names of the tools, if given: ``create_agent`` takes one middleware of a name."""
        return "RerankMiddleware" if self._names is None else f"RerankMiddleware({', '.join(sorted(self._names))})"

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], ToolMessage | Command[Any]]
    ) -> ToolMessage | Command[Any]:
        """Run the tool, then rerank what it returned."""
        result = handler(request)
        given = self._compressor_input(request, result)
        return self._replace(result, self.compressor.invoke(given)) if given["documents"] else result

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[ToolMessage | Command[Any]]]
    ) -> ToolMessage | Command[Any]:
        """`wrap_tool_call` without blocking the event loop."""
        result = await handler(request)
        given = self._compressor_input(request, result)
        return self._replace(result, await self.compressor.ainvoke(given)) if given["documents"] else result

    def _compressor_input(self, request: ToolCallRequest, result: ToolMessage | Command[Any]) -> RerankInput:
        documents = self._documents(request, result)
        return {"documents": documents, "query": self._query(request) if documents else ""}

    def _documents(self, request: ToolCallRequest, result: ToolMessage | Command[Any]) -> list[Document]:
        name = request.tool_call["name"]
        if self._names is not None and name not in self._names:
            return []
        if isinstance(result, ToolMessage) and result.status == "error":
            return []
        found = result.artifact if isinstance(result, ToolMessage) else result
        if isinstance(found, list | tuple) and all(isinstance(document, Document) for document in found):
            return list(found)
        # Passing on what was meant to be reranked would look as if it had been.
        retrieves = request.tool is not None and request.tool.args_schema is RetrieverInput
        if self._names is not None or retrieves:
            raise InvalidInputError(
                f"The tool {name!r} gave no list of Documents as artifact (got {type(found).__name__}), so there is "
                f"nothing to rerank. Make it with create_retriever_tool(..., "
                f"response_format='content_and_artifact'), or name in RerankMiddleware(tools=[...]) only others."
            )
        return []

    def _query(self, request: ToolCallRequest) -> str:
        asked, state = _query_argument(request.tool_call["args"]), request.state
        if asked and self._question == "tool_call":
            return asked
        return _last_human_text(state["messages"] if isinstance(state, Mapping) else state.messages) or asked

    def _replace(self, message: Any, documents: list[Document]) -> Any:
        text = self._separator.join(format_document(document, self._prompt) for document in documents)
        update = {"content": text or self._empty_text, "artifact": documents}
        return message.model_copy(update=update)


def _query_argument(arguments: dict[str, Any]) -> str:
    """What the agent asked the tool; blank where its arguments do not say."""
    texts = [value for value in arguments.values() if isinstance(value, str)]
    query = arguments.get("query") or (texts[0] if len(texts) == 1 else "")
    return query.strip() if isinstance(query, str) and not is_blank(query) else ""


def _last_human_text(messages: list[Any]) -> str:
    """What the user said last, in words; LangChain's summaries of a conversation are human messages too."""
    for message in reversed(messages):
        if isinstance(message, HumanMessage) and message.additional_kwargs.get("lc_source") != "summarization":
            text = str(message.text).strip()
            if not is_blank(text):
                return text
    return ""
