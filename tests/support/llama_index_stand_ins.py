"""Nodes, a retriever, and what keeps traces, that the tests of the LlamaIndex adapter share."""

from __future__ import annotations

from typing import Any

from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks import CallbackManager, CBEventType
from llama_index.core.callbacks.base_handler import BaseCallbackHandler
from llama_index.core.instrumentation.event_handlers import BaseEventHandler
from llama_index.core.instrumentation.events import BaseEvent
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span import SimpleSpan
from llama_index.core.instrumentation.span_handlers import SimpleSpanHandler
from llama_index.core.retrievers import BaseRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle, TextNode

from rerank_plugins import Scorer
from rerank_plugins.llama_index import RerankPostprocessor
from scorers import QUERY, TEXTS, ByLength, Gives, Remembers, Slow

__all__ = ["QUERY", "TEXTS", "ByLength", "Fixed", "Gives", "Remembers", "Slow", "Trace", "nodes"]


class Fixed(BaseRetriever):
    """Returns the very objects it holds, as an in-memory retriever may."""

    def __init__(self, held: list[NodeWithScore]) -> None:
        super().__init__()
        self.held = held

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:  # noqa: ARG002
        return self.held


def nodes() -> list[NodeWithScore]:
    """Three scored nodes with ids and metadata, new objects at every call."""
    return [
        NodeWithScore(node=TextNode(text=text, id_=f"n{n}", metadata={"page": n}), score=0.5 - n / 10)
        for n, text in enumerate(TEXTS)
    ]


class Events(BaseEventHandler):
    """Keeps the events of rerankers."""

    seen: list[BaseEvent] = Field(default_factory=list)

    def handle(self, event: BaseEvent, **kwargs: Any) -> None:  # noqa: ARG002 - LlamaIndex's signature
        """Keep it."""
        if isinstance(event, ReRankStartEvent | ReRankEndEvent):
            self.seen.append(event)


class Callbacks(BaseCallbackHandler):
    """Keeps the callbacks of rerankers, and the types of all others by their ids."""

    def __init__(self) -> None:
        super().__init__([], [])
        self.started: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        self.others: dict[str, CBEventType] = {}

    def on_event_start(self, event_type: CBEventType, payload: Any = None, event_id: str = "", **kwargs: Any) -> str:
        """Keep it with its id and its parent's."""
        if event_type is CBEventType.RERANKING:
            self.started.append({"id": event_id, "parent": kwargs["parent_id"], "payload": payload})
        else:
            self.others[event_id] = event_type
        return event_id

    def on_event_end(self, event_type: CBEventType, payload: Any = None, event_id: str = "", **kwargs: Any) -> None:  # noqa: ARG002 - the same
        """Keep it with its id."""
        if event_type is CBEventType.RERANKING:
            self.ended.append({"id": event_id, "payload": payload})

    def start_trace(self, trace_id: str | None = None) -> None:
        """Nothing to keep."""

    def end_trace(self, trace_id: str | None = None, trace_map: Any = None) -> None:
        """Nothing to keep."""


class Trace:
    """The spans, events and callbacks of rerankers."""

    def __init__(self) -> None:
        self.handler, self.spans, self.callbacks = Events(), SimpleSpanHandler(), Callbacks()

    def events(self) -> list[BaseEvent]:
        """In the order in which they came."""
        return self.handler.seen

    def completed(self) -> list[SimpleSpan]:
        """Spans of calls that returned."""
        return [span for span in self.spans.completed_spans if span.id_.startswith("RerankPostprocessor.")]

    def dropped(self) -> list[SimpleSpan]:
        """Spans of calls that raised."""
        return [span for span in self.spans.dropped_spans if span.id_.startswith("RerankPostprocessor.")]

    def postprocessor(self, scorer: Scorer | None = None, **fields: Any) -> RerankPostprocessor:
        """One whose callbacks are kept; it scores by length unless it is told a scorer or a model."""
        if "model" not in fields:
            fields["reranker"] = scorer or ByLength()
        return RerankPostprocessor(**{"top_n": 2, "callback_manager": CallbackManager([self.callbacks]), **fields})
