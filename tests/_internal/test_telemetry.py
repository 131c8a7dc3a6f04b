from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from rerank_plugins import Reranker, ScoringError, load_reranker
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker
from rerank_servers import KEY, Fault, rerank_server
from scorers import Gives

TEXTS = ["apple", "plums and pears", "grape", " "]


@pytest.fixture(scope="module")
def spans() -> Iterator[InMemorySpanExporter]:
    """What a provider of the user's is given; OpenTelemetry takes one provider a process."""
    exporter = InMemorySpanExporter()
    provider = trace.get_tracer_provider()
    if not isinstance(provider, TracerProvider):
        provider = TracerProvider()
        trace.set_tracer_provider(provider)
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    yield exporter
    exporter.shutdown()


@pytest.fixture(scope="module")
def reader() -> InMemoryMetricReader:
    """What a meter provider of the user's collects."""
    reader = InMemoryMetricReader()
    metrics.set_meter_provider(MeterProvider([reader]))
    return reader


def test_a_call_of_a_server_is_a_span_without_its_key_and_its_texts(spans: InMemorySpanExporter) -> None:
    """Under the name that the model was loaded by, also where the server fails and repeats the key."""
    spans.clear()
    with rerank_server(key=KEY) as server, load_reranker(server.model, api_key=KEY) as reranker:
        server.faults.append(Fault(400, f'{{"message": "not {KEY}"}}'.encode()))
        reranker.rerank("a secret question", TEXTS, on_error="keep_order")
        reranker.rerank("a secret question", TEXTS)
    failed, good = spans.get_finished_spans()
    assert (failed.attributes or {})["rerank_plugins.fallback"] == "RemoteError"
    assert (good.attributes or {})["reranker.model_name"] == server.model
    assert (good.attributes or {})["rerank_plugins.scored"] == 3
    written = failed.to_json() + good.to_json()
    assert not any(text in written for text in (KEY, "secret question", "plums"))


def test_a_call_is_one_span_in_the_callers_context(spans: InMemorySpanExporter) -> None:
    """A span named rerank, child of the caller's, with the model, the counts and the wait."""
    spans.clear()
    with trace.get_tracer("caller").start_as_current_span("request") as parent:
        toy_reranker().rerank("q", TEXTS, top_n=2)
    span, _ = spans.get_finished_spans()
    assert span.name == "rerank"
    assert span.parent is not None
    assert span.parent.span_id == parent.get_span_context().span_id
    attributes = dict(span.attributes or {})
    assert attributes.pop("rerank_plugins.queue_seconds") >= 0  # type: ignore[operator]
    assert attributes == {
        "reranker.model_name": "CrossEncoderScorer",
        "reranker.top_k": 2,
        "rerank_plugins.documents": 4,
        "rerank_plugins.scored": 3,
        "rerank_plugins.unscored": 0,
        "rerank_plugins.truncated": 0,
        "rerank_plugins.fallback": "",
    }


async def test_an_async_call_is_one_span_too(spans: InMemorySpanExporter) -> None:
    """Arerank gives the same span, with what a deadline left out."""
    spans.clear()
    await toy_reranker(SlowEngine(seconds=0.2)).arerank("q", TEXTS, deadline=0.01)
    (span,) = spans.get_finished_spans()
    assert (span.attributes or {})["rerank_plugins.unscored"] == 3


def test_a_failure_is_on_the_span(spans: InMemorySpanExporter) -> None:
    """An error ends the span as one; a fallback names and records what it stands for."""
    spans.clear()
    with pytest.raises(ScoringError):
        Reranker(Gives(1.0)).rerank("q", TEXTS)
    toy_reranker(FailingEngine(at=1)).rerank("q", TEXTS, on_error="keep_order")
    failed, kept = spans.get_finished_spans()
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert kept.status.status_code is trace.StatusCode.UNSET
    assert (kept.attributes or {})["rerank_plugins.fallback"] == "ScoringError"
    assert [event.name for event in kept.events] == ["exception"]


def test_metrics_are_recorded(reader: InMemoryMetricReader) -> None:
    """Durations, waits and documents, by model."""
    toy_reranker().rerank("q", TEXTS)
    data: Any = reader.get_metrics_data()
    found = {
        metric.name: metric.data.data_points
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        if scope.scope.name == "rerank_plugins"
        for metric in scope.metrics
    }
    assert found.keys() == {"rerank.duration", "rerank.queue.duration", "rerank.documents", "rerank.documents.unscored"}
    assert sum(point.value for point in found["rerank.documents"]) >= 3
    assert all(point.attributes["reranker.model_name"] for points in found.values() for point in points)


def test_opentelemetry_need_not_be_there() -> None:
    """Without its API nothing is imported of it, and reranking works."""
    script = (
        "import sys\n"
        "sys.modules['opentelemetry.trace'] = None\n"
        "sys.modules['opentelemetry.metrics'] = None\n"
        "from rerank_plugins.testing import toy_reranker\n"
        "print(len(toy_reranker().rerank('q', ['a', 'b'])))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")
