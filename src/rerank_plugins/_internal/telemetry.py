"""Spans and metrics for OpenTelemetry, where its API is installed; nothing where it is not."""

from __future__ import annotations

import functools
import importlib.util
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class Facts:
    """What is known of a call when it ends."""

    def __init__(self) -> None:
        self.queue_seconds = 0.0
        self.scored = 0
        self.unscored = 0
        self.truncated = 0
        self.fallback: BaseException | None = None
        """Why the answer is in retrieval order."""

    def attributes(self) -> dict[str, Any]:
        """For a span."""
        return {
            "rerank_plugins.scored": self.scored,
            "rerank_plugins.unscored": self.unscored,
            "rerank_plugins.truncated": self.truncated,
            "rerank_plugins.queue_seconds": self.queue_seconds,
            "rerank_plugins.fallback": "" if self.fallback is None else type(self.fallback).__name__,
        }


class _Instruments:
    """Made once; providers that are set later are found by OpenTelemetry's own proxies."""

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
def instruments() -> _Instruments | None:
    """Found once; None without OpenTelemetry's API."""
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    try:
        return _Instruments()
    except ImportError:  # something else has the name's folder
        return None


@contextmanager
def observed(attributes: Mapping[str, Any]) -> Iterator[Facts]:
    """A span named ``rerank`` around a call, in the caller's context, and its numbers when it ends, also with an error.

    ``attributes``: what is known at its beginning.
    """
    facts, found = Facts(), instruments()
    if found is None:
        yield facts
        return
    start = time.monotonic()
    labels: dict[str, Any] = {}
    with found.tracer.start_as_current_span("rerank", attributes=dict(attributes)) as span:
        try:
            yield facts
            labels = {"fallback": facts.attributes()["rerank_plugins.fallback"]}
        except BaseException as exc:
            labels = {"error.type": type(exc).__name__}
            raise
        finally:
            span.set_attributes(facts.attributes())
            if facts.fallback is not None:
                span.record_exception(facts.fallback)
            labels |= {name: attributes[name] for name in ("reranker.model_name",) if name in attributes}
            found.duration.record(time.monotonic() - start, labels)
            found.queue.record(facts.queue_seconds, labels)
            found.documents.add(facts.scored, labels)
            found.unscored.add(facts.unscored, labels)
