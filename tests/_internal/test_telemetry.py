from __future__ import annotations

import contextvars
import logging
import pickle
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

from rerank_plugins import Reranker, ScoringError, Stats
from rerank_plugins.testing import FailingEngine, SlowEngine, ToyEngine, toy_reranker
from scorers import ByLength, Gives

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


def test_stats_say_what_was_done() -> None:
    """Requests, pairs, tokens, batches, seconds, padding and what was cut: counted, and consistent."""
    reranker = toy_reranker(max_length=64)
    assert reranker.stats() == Stats(token_budget=2048)
    reranker.rerank("q", [])
    reranker.rerank("q", [" "])
    reranker.rerank("q", [*TEXTS, "x" * 100])
    stats = reranker.stats()
    assert (stats.requests, stats.pairs, stats.truncated, stats.waiting_pairs) == (1, 4, 1, 0)
    assert stats.tokens == sum(4 + len(text) for text in TEXTS[:3]) + 64
    assert stats.padded_tokens >= stats.tokens
    assert stats.padding_share == 1 - stats.tokens / stats.padded_tokens
    assert 1 <= stats.batches <= 4
    assert stats.compute_seconds > 0
    assert stats.queue_seconds >= 0
    assert stats.cache_hit_rate == 0


def test_stats_of_a_scorer_of_ones_own() -> None:
    """What belongs to a model is 0, the rest is counted."""
    reranker = Reranker(ByLength())
    reranker.rerank("q", TEXTS)
    assert reranker.stats() == Stats(requests=1, pairs=3)


def test_a_pickle_counts_from_the_beginning() -> None:
    """A reranker that is read from a pickle has done nothing yet."""
    reranker = Reranker(ByLength())
    reranker.rerank("q", TEXTS)
    assert pickle.loads(pickle.dumps(reranker)).stats() == Stats()  # noqa: S301 - our own


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


def test_the_callers_context_reaches_the_engine() -> None:
    """What an engine logs or traces belongs to the call it works for."""
    tenant: contextvars.ContextVar[str] = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    class Looks(ToyEngine):
        def logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            seen.append(tenant.get())
            return super().logits(input_ids, attention_mask, token_type_ids)

    reranker = toy_reranker(Looks())
    for name in ("a", "b"):
        contextvars.copy_context().run(lambda name=name: (tenant.set(name), reranker.rerank("q", ["x"])))
    assert seen == ["a", "b"]


def test_a_partial_answer_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for whoever listens to rerank_plugins.runtime, and one in the counters."""
    reranker = toy_reranker(SlowEngine(seconds=0.2))
    with caplog.at_level(logging.WARNING, "rerank_plugins.runtime"):
        reranker.rerank("q", TEXTS, deadline=0.01)
    assert [record.message for record in caplog.records] == ["3 of 4 documents had no score at the deadline."]
    assert reranker.stats().partial == 1
