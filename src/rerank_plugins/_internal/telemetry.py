"""Spans and metrics for OpenTelemetry, where its API is installed; nothing where it is not."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class CallMetrics:
    """The numbers of one call, known when it ends."""

    queue_seconds: float = 0.0
    scored: int = 0
    unscored: int = 0
    truncated: int = 0
    fallback: BaseException | None = None
    """The error that was answered with the documents in retrieval order."""

    def attributes(self) -> dict[str, Any]:
        """The attributes of a span."""
        values = {name: getattr(self, name) for name in ("scored", "unscored", "truncated", "queue_seconds")}
        values["fallback"] = "" if self.fallback is None else type(self.fallback).__name__
        return {f"rerank_plugins.{name}": value for name, value in values.items()}


class _Instruments:
    """A tracer and meters; OpenTelemetry's own proxies find providers that are set later."""

    def __init__(self) -> None:
        from opentelemetry import metrics, trace

        self.tracer = trace.get_tracer("rerank_plugins")
        meter = metrics.get_meter("rerank_plugins")
        self.duration = meter.create_histogram("rerank.duration", unit="s", description="From call to answer.")
        self.queue = meter.create_histogram("rerank.queue.duration", unit="s", description="Before its turn came.")
        self.documents = meter.create_counter("rerank.documents", unit="{document}", description="Got a score.")
        self.unscored = meter.create_counter(
            "rerank.documents.unscored", unit="{document}", description="Came back without a score."
        )


@functools.cache
def get_instruments() -> _Instruments | None:
    """The instruments of this process; None without OpenTelemetry's API."""
    try:
        return _Instruments()
    except ImportError:
        return None


@contextmanager
def observe_call(attributes: Mapping[str, Any]) -> Iterator[CallMetrics]:
    """A span named ``rerank`` around a call, in the caller's context; its metrics are recorded also after an error."""
    call, instruments = CallMetrics(), get_instruments()
    if instruments is None:
        yield call
        return
    start = time.monotonic()
    labels: dict[str, Any] = {"reranker.model_name": attributes["reranker.model_name"]}
    with instruments.tracer.start_as_current_span("rerank", attributes=dict(attributes)) as span:
        try:
            yield call
            labels |= {"fallback": call.attributes()["rerank_plugins.fallback"]}
        except BaseException as exc:
            labels |= {"error.type": type(exc).__name__}
            raise
        finally:
            span.set_attributes(call.attributes())
            if call.fallback is not None:
                span.record_exception(call.fallback)
            instruments.duration.record(time.monotonic() - start, labels)
            instruments.queue.record(call.queue_seconds, labels)
            instruments.documents.add(call.scored, labels)
            instruments.unscored.add(call.unscored, labels)
