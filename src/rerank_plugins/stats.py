"""Counters of what a reranker has done."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from rerank_plugins._internal.fork import make_lock

__all__ = ["Stats"]


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the model was loaded, at one moment.

    Those from ``tokens`` on belong to the model and are 0 for a custom scorer; rerankers that share a model share them.
    """

    requests: int = 0
    """Calls of ``rerank`` and ``arerank`` with something to score."""
    pairs: int = 0
    """Pairs that got a score: from the model, from the cache, or from an equal pair of the same call."""
    truncated: int = 0
    """Scored pairs that the model did not read to the end."""
    partial: int = 0
    """Calls in which a deadline left documents without a score."""
    unranked: int = 0
    """Calls answered in retrieval order after an error, with ``on_error="keep_order"``."""
    overloaded: int = 0
    """Calls that were refused because too many pairs waited."""
    expired: int = 0
    """Calls that exceeded their deadline, with ``on_deadline="raise"``."""
    tokens: int = 0
    """Tokens that the model read, without padding; of a server those that it says it read or billed."""
    padded_tokens: int = 0
    """Tokens that the model read, with padding."""
    rows: int = 0
    """Rows that the model read: one for a pair, several for a long document read in windows."""
    batches: int = 0
    """Batches that the model computed."""
    queue_seconds: float = 0.0
    """Seconds between a call's arrival and its first work, summed over all calls."""
    compute_seconds: float = 0.0
    """Seconds spent in the model."""
    cache_hits: int = 0
    """Pairs whose score was in the cache."""
    cache_misses: int = 0
    """Pairs whose score was not in the cache; 0 without a cache."""
    cancelled: int = 0
    """Calls that their callers gave up, for example by cancelling a task."""
    out_of_memory: int = 0
    """Batches that ran out of memory; each halves ``token_budget``."""
    worker_restarts: int = 0
    """How often the worker thread died and was replaced."""
    waiting_pairs: int = 0
    """Pairs without a score at this moment."""
    token_budget: int = 0
    """The most padded tokens that a batch may have at this moment."""
    http_requests: int = 0
    """Requests sent to a server that reranks, those that were repeated included."""
    http_retries: int = 0
    """Requests that were sent again after a failure."""
    billed_units: float = 0.0
    """What a service says it billed, in its own unit where that is not tokens: Cohere's search units."""

    @property
    def padding_share(self) -> float:
        """Share of ``padded_tokens`` that is padding, in [0, 1]."""
        return 1 - self.tokens / self.padded_tokens if self.padded_tokens else 0.0

    @property
    def cache_hit_rate(self) -> float:
        """Share of the pairs looked up in the cache that were there, in [0, 1]."""
        lookups = self.cache_hits + self.cache_misses
        return self.cache_hits / lookups if lookups else 0.0


class Counts:
    """Counters with the names of the fields of `Stats`; safe to use from any thread."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = {field.name: 0 for field in fields(Stats)}
        self._lock = make_lock()

    def __reduce__(self) -> tuple[object, ...]:
        return Counts, ()  # a reranker read from a pickle has done nothing yet

    def add(self, **amounts: float) -> None:
        """Add to the counters with these names."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def plus(self, others: Mapping[str, Any]) -> dict[str, Any]:
        """The counters, with ``others`` added."""
        with self._lock:
            return {name: value + others.get(name, 0) for name, value in self._values.items()}
