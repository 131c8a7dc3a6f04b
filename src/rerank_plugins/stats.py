"""What a reranker has done so far, in numbers."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any
from weakref import WeakSet


@dataclass(frozen=True, slots=True)
class Stats:
    """Counters since the model was loaded, at one moment.

    Those from ``tokens`` on belong to the model and are 0 for a scorer of one's own; rerankers that share a model
    share them.
    """

    requests: int = 0
    """Calls of ``rerank`` and ``arerank`` with something to score."""
    pairs: int = 0
    """Pairs that got a score: from the model, from the cache, or from an equal pair of the same call."""
    truncated: int = 0
    """Of these, pairs that the model did not read to the end."""
    partial: int = 0
    """Answers in which a deadline left documents without a score."""
    unranked: int = 0
    """Answers in their retrieval order, after an error and with ``on_error="keep_order"``."""
    overloaded: int = 0
    """Calls that were refused because too many pairs waited."""
    expired: int = 0
    """Calls whose time was up, with ``on_deadline="raise"``."""
    tokens: int = 0
    """Tokens that the model read, without padding."""
    slots: int = 0
    """Tokens and padding."""
    rows: int = 0
    """What the model read: one a pair, or the windows of a long document."""
    batches: int = 0
    queue_seconds: float = 0.0
    """Seconds between a call's arrival and its first work, all calls together."""
    compute_seconds: float = 0.0
    """Seconds in the model."""
    cache_hits: int = 0
    """Pairs whose score was known."""
    cache_misses: int = 0
    """Pairs that were looked for in the cache and not found; 0 while no cache is on."""
    cancelled: int = 0
    """Calls that were given up by their callers, such as a cancelled task."""
    out_of_memory: int = 0
    """Batches for which memory ran out; each halves ``token_budget``."""
    worker_restarts: int = 0
    """How often the thread that computes died and was replaced."""
    waiting_pairs: int = 0
    """Pairs without a score at this moment."""
    token_budget: int = 0
    """Slots of a batch at this moment."""

    @property
    def padding_share(self) -> float:
        """Share of ``slots`` that is padding, in [0, 1]."""
        return 1 - self.tokens / self.slots if self.slots else 0.0

    @property
    def cache_hit_rate(self) -> float:
        """Share of the pairs looked for in the cache that were there, in [0, 1]."""
        asked = self.cache_hits + self.cache_misses
        return self.cache_hits / asked if asked else 0.0


class Counts:
    """Adds up, from any thread."""

    def __init__(self) -> None:
        self._values: dict[str, Any] = dict.fromkeys((field.name for field in fields(Stats)), 0)
        self._lock = threading.Lock()
        _all.add(self)

    def __reduce__(self) -> tuple[object, ...]:
        return Counts, ()  # what is read from a pickle has done nothing yet

    def add(self, **amounts: float) -> None:
        """Add to the fields of `Stats` with these names."""
        with self._lock:
            for name, amount in amounts.items():
                self._values[name] += amount

    def plus(self, others: Mapping[str, Any]) -> dict[str, Any]:
        """What there is by now, added to ``others``."""
        with self._lock:
            return {name: value + others.get(name, 0) for name, value in self._values.items()}

    def after_fork(self) -> None:
        """Another thread of the parent may have held the lock; here that thread does not exist."""
        self._lock = threading.Lock()


_all: WeakSet[Counts] = WeakSet()


def _after_fork() -> None:
    for counts in list(_all):
        counts.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
