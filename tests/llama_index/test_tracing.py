"""What a call leaves in LlamaIndex's instrumentation, in its callbacks and in OpenInference."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
from llama_index.core.chat_engine import CondensePlusContextChatEngine, ContextChatEngine
from llama_index.core.instrumentation import get_dispatcher
from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.instrumentation.span import active_span_id
from llama_index.core.llms import MockLLM
from llama_index.core.memory import ChatMemoryBuffer
from llama_index.core.query_engine import CitationQueryEngine, RetrieverQueryEngine
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode
from openinference.instrumentation.llama_index import LlamaIndexInstrumentor
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from llama_index_stand_ins import QUERY, TEXTS, ByLength, Fixed, Gives, Slow, Trace, nodes
from rerank_plugins import InvalidInputError, Pair, ScoringError, sigmoid
from rerank_plugins.llama_index import RerankPostprocessor

RETRIEVED = [("n0", 0.5), ("n1", 0.4), ("n2", 0.3)]
# `ByLength` puts the longest first; the others are equally long, and so keep their order.
RANKED = [
    (f"n{n}", sigmoid(len(nodes()[n].node.get_content(metadata_mode=MetadataMode.EMBED)) / 100)) for n in (2, 0, 1)
]


@pytest.fixture
def trace() -> Iterator[Trace]:
    """Handlers at the root, where observability packages put theirs."""
    found, root = Trace(), get_dispatcher()
    root.add_event_handler(found.handler)
    root.add_span_handler(found.spans)
    yield found
    root.event_handlers.remove(found.handler)
    root.span_handlers.remove(found.spans)
    assert found.spans.open_spans == {}


def engine(p: RerankPostprocessor, held: list[NodeWithScore]) -> RetrieverQueryEngine:
    return RetrieverQueryEngine.from_args(
        Fixed(held), llm=MockLLM(), node_postprocessors=[p], callback_manager=p.callback_manager
    )


DIRECT: dict[str, Callable[..., Any]] = {
    "sync": lambda p, held, query=QUERY: p.postprocess_nodes(held, query_str=query),
    "async": lambda p, held, query=QUERY: asyncio.run(p.apostprocess_nodes(held, query_str=query)),
}
CALLS: dict[str, Callable[..., Any]] = DIRECT | {
    "engine": lambda p, held: engine(p, held).query(QUERY).source_nodes,
    "async engine": lambda p, held: asyncio.run(engine(p, held).aquery(QUERY)).source_nodes,
}


def seen(found: list[NodeWithScore]) -> list[tuple[str, float | None]]:
    return [(node.node_id, node.score) for node in found]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_span_with_one_pair_of_events(name: str, trace: Trace) -> None:
    """Exactly one span is completed, and in it one Start and one End with model, query, top_n and both lists."""
    CALLS[name](trace.postprocessor(), nodes())
    (span,) = trace.completed()
    start, end = trace.events()
    assert isinstance(start, ReRankStartEvent)
    assert isinstance(end, ReRankEndEvent)
    assert [start.span_id, end.span_id] == [span.id_, span.id_]
    assert (start.model_name, start.query.query_str, start.top_n) == ("ByLength", QUERY, 2)  # type: ignore[union-attr]
    # Read after the call: ranking has not written into the nodes that came in.
    assert seen(start.nodes) == RETRIEVED
    assert seen(end.nodes) == RANKED[:2]


@pytest.mark.parametrize("name", CALLS)
def test_a_call_is_one_callback(name: str, trace: Trace) -> None:
    """One RERANKING callback starts with nodes, model, query and top_k, and ends with the best nodes."""
    given = nodes()
    best = CALLS[name](trace.postprocessor(), given)
    (start,), (end,) = trace.callbacks.started, trace.callbacks.ended
    assert start["id"] == end["id"]
    assert start["payload"] == {
        EventPayload.NODES: given,
        EventPayload.MODEL_NAME: "ByLength",
        EventPayload.QUERY_STR: QUERY,
        EventPayload.TOP_K: 2,
    }
    assert seen(start["payload"][EventPayload.NODES]) == RETRIEVED
    assert end["payload"] == {EventPayload.NODES: best}
    assert seen(best) == RANKED[:2]


@pytest.mark.parametrize(("name", "method"), [("engine", "_query"), ("async engine", "_aquery")])
def test_the_trace_hangs_on_the_engines(name: str, method: str, trace: Trace) -> None:
    """In an engine the span's parent is the engine's span, and the callback's parent the engine's callback."""
    CALLS[name](trace.postprocessor(), nodes())
    (span,), (start,) = trace.completed(), trace.callbacks.started
    assert str(span.parent_id).startswith(f"RetrieverQueryEngine.{method}-")
    assert trace.callbacks.others[start["parent"]] is CBEventType.QUERY


@pytest.mark.parametrize("name", DIRECT)
def test_empty_input_leaves_the_same_trace(name: str, trace: Trace) -> None:
    """No nodes are one span, one pair of events and one callback too, though the model is never looked for."""
    assert DIRECT[name](trace.postprocessor(model="no/such-model"), []) == []
    (span,), (start, end) = trace.completed(), trace.events()
    assert (start.model_name, start.nodes, start.top_n) == ("no/such-model", [], 2)  # type: ignore[attr-defined]
    assert (end.nodes, start.span_id, end.span_id) == ([], span.id_, span.id_)  # type: ignore[attr-defined]
    (started,), (ended,) = trace.callbacks.started, trace.callbacks.ended
    assert (started["id"], started["payload"][EventPayload.NODES]) == (ended["id"], [])
    assert ended["payload"] == {EventPayload.NODES: []}


@pytest.mark.parametrize(("top_n", "reported"), [(None, 3), (0, 0), (99, 99)])
@pytest.mark.parametrize("name", DIRECT)
def test_the_trace_reports_how_many_are_kept(name: str, top_n: int | None, reported: int, trace: Trace) -> None:
    """top_n as it is set, and the number of nodes where it is None."""
    best = DIRECT[name](trace.postprocessor(top_n=top_n), nodes())
    start, end = trace.events()
    assert start.top_n == reported  # type: ignore[attr-defined]
    assert trace.callbacks.started[0]["payload"][EventPayload.TOP_K] == reported
    assert seen(end.nodes) == seen(best) == RANKED[:reported]  # type: ignore[attr-defined]


WRONG: dict[str, tuple[Any, str | None, str]] = {
    "no query": (nodes(), None, "Missing query bundle"),
    "a blank query": (nodes(), " \n", "query is blank"),
    "no NodeWithScore": ([TextNode(text="bare")], QUERY, "got TextNode at position 0"),
}


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("name", DIRECT)
def test_wrong_input_raises_before_anything_starts(name: str, wrong: str, trace: Trace) -> None:
    """Validation drops the span with its error; there is no Start without an End and no callback."""
    given, query, message = WRONG[wrong]
    with pytest.raises(InvalidInputError, match=message):
        DIRECT[name](trace.postprocessor(), given, query)
    assert (trace.events(), trace.callbacks.started, trace.completed()) == ([], [], [])
    (span,) = trace.dropped()
    assert message in span.metadata["error"]  # type: ignore[index]


@pytest.mark.parametrize("name", CALLS)
def test_a_scorers_error_ends_the_trace(name: str, trace: Trace) -> None:
    """The span is dropped with the error, the callback ends with the exception, and no End is told."""
    with pytest.raises(ScoringError, match="NaN") as caught:
        CALLS[name](trace.postprocessor(Gives(1.0, float("nan"), 0.0)), nodes())
    assert [type(event) for event in trace.events()] == [ReRankStartEvent]
    (start,), (end,) = trace.callbacks.started, trace.callbacks.ended
    assert (end["id"], end["payload"]) == (start["id"], {EventPayload.EXCEPTION: caught.value})
    (span,) = trace.dropped()
    assert (trace.completed(), span.metadata) == ([], {"error": str(caught.value)})


def test_cancelling_ends_the_trace(trace: Trace) -> None:
    """A call that is cancelled while the scorer works drops its span and ends its callback without nodes."""
    working = threading.Event()

    class Signals(Slow):
        def score(self, pairs: list[Pair], /) -> list[float]:
            working.set()
            return super().score(pairs)

    async def cancel() -> None:
        call = asyncio.create_task(trace.postprocessor(Signals()).apostprocess_nodes(nodes(), query_str=QUERY))
        await asyncio.to_thread(working.wait, 5)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(cancel())
    assert [type(event) for event in trace.events()] == [ReRankStartEvent]
    assert (len(trace.dropped()), trace.completed()) == (1, [])
    assert [end["payload"] for end in trace.callbacks.ended] == [None]


@pytest.mark.parametrize("name", DIRECT)
def test_what_a_scorer_traces_is_in_the_span(name: str, trace: Trace) -> None:
    """The scorer works inside the call's span, on a worker thread too."""
    spans: list[str | None] = []

    class Traces(ByLength):
        def score(self, pairs: list[Pair], /) -> list[float]:
            spans.append(active_span_id.get())
            return super().score(pairs)

    DIRECT[name](trace.postprocessor(Traces()), nodes())
    assert spans == [span.id_ for span in trace.completed()]


def test_calls_at_the_same_time_keep_their_traces_apart(trace: Trace) -> None:
    """Of four concurrent calls each has a span of its own, and Start and End of the same query in it."""

    async def ask() -> None:
        postprocessor = trace.postprocessor(top_n=None)
        await asyncio.gather(*(postprocessor.apostprocess_nodes(nodes()[:n], query_str=QUERY) for n in range(4)))

    asyncio.run(ask())
    counts = {
        span.id_: [len(event.nodes) for event in trace.events() if event.span_id == span.id_]  # type: ignore[attr-defined]
        for span in trace.completed()
    }
    assert sorted(counts.values()) == [[n, n] for n in range(4)]


def assigned(p: RerankPostprocessor, found: Trace) -> dict[str, Callable[[], Any]]:
    """Engines that put their own callback manager into the postprocessor, each with a question to ask."""
    manager = CallbackManager([found.callbacks])
    parts: dict[str, Any] = {"retriever": Fixed(nodes()), "node_postprocessors": [p], "callback_manager": manager}
    chat = {**parts, "llm": MockLLM(), "memory": ChatMemoryBuffer.from_defaults(token_limit=3000)}
    return {
        "query": lambda: RetrieverQueryEngine.from_args(llm=MockLLM(), **parts).query(QUERY),
        "citation": lambda: CitationQueryEngine(llm=MockLLM(), **parts).query(QUERY),
        "context chat": lambda: ContextChatEngine(prefix_messages=[], **chat).chat(QUERY),
        "condense chat": lambda: CondensePlusContextChatEngine(**chat).chat(QUERY),
    }


@pytest.mark.parametrize("name", ["query", "citation", "context chat", "condense chat"])
def test_an_engine_may_assign_its_callback_manager(name: str, trace: Trace) -> None:
    """The reranking shows among the callbacks of the engine that the postprocessor was given to."""
    assigned(RerankPostprocessor(reranker=ByLength(), top_n=2), trace)[name]()
    assert [len(end["payload"][EventPayload.NODES]) for end in trace.callbacks.ended] == [2]


@pytest.fixture
def exporter() -> Iterator[InMemorySpanExporter]:
    """What OpenInference's instrumentation sends, kept in memory."""
    found, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(found))
    LlamaIndexInstrumentor().instrument(tracer_provider=provider)
    yield found
    LlamaIndexInstrumentor().uninstrument()
    provider.shutdown()


def documents(span: ReadableSpan, which: str) -> list[tuple[Any, Any, Any]]:
    """Id, score and text of each of a span's documents."""
    attributes, found = dict(span.attributes or {}), []
    while f"reranker.{which}_documents.{len(found)}.document.id" in attributes:
        prefix = f"reranker.{which}_documents.{len(found)}.document."
        found.append(tuple(attributes.get(prefix + part) for part in ("id", "score", "content")))
    return found


def rerankers(exporter: InMemorySpanExporter) -> list[ReadableSpan]:
    spans = exporter.get_finished_spans()
    return [span for span in spans if (span.attributes or {}).get("openinference.span.kind") == "RERANKER"]


@pytest.mark.parametrize("name", CALLS)
def test_openinference_sees_one_reranker(name: str, exporter: InMemorySpanExporter) -> None:
    """Exactly one RERANKER span, with query, model, top_k and the documents with both their scores."""
    CALLS[name](RerankPostprocessor(reranker=ByLength(), top_n=2), nodes())
    (span,) = rerankers(exporter)
    attributes = dict(span.attributes or {})
    assert {key: attributes[f"reranker.{key}"] for key in ("query", "model_name", "top_k")} == {
        "query": QUERY,
        "model_name": "ByLength",
        "top_k": 2,
    }
    texts = dict(zip(("n0", "n1", "n2"), TEXTS, strict=True))
    assert documents(span, "input") == [(key, score, texts[key]) for key, score in RETRIEVED]
    assert documents(span, "output") == [(key, score, texts[key]) for key, score in RANKED[:2]]
    assert span.status.is_ok


@pytest.mark.parametrize("name", DIRECT)
def test_openinference_sees_the_error(name: str, exporter: InMemorySpanExporter) -> None:
    """The one RERANKER span has the scorer's error, its input and no output."""
    with pytest.raises(ScoringError):
        DIRECT[name](RerankPostprocessor(reranker=Gives(1.0)), nodes())
    (span,) = rerankers(exporter)
    assert not span.status.is_ok
    assert "1 scores for 3 pairs" in str(span.status.description)
    assert (len(documents(span, "input")), documents(span, "output")) == (3, [])
