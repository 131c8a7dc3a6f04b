from __future__ import annotations

import logging
import pickle

import pytest

from rerank_plugins import Reranker, Stats
from rerank_plugins.testing import SlowEngine, toy_reranker
from scorers import ByLength

TEXTS = ["apple", "plums and pears", "grape", " "]


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


def test_a_partial_answer_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for whoever listens to rerank_plugins.runtime, and one in the counters."""
    reranker = toy_reranker(SlowEngine(seconds=0.2))
    with caplog.at_level(logging.WARNING, "rerank_plugins.runtime"):
        reranker.rerank("q", TEXTS, deadline=0.01)
    assert [record.message for record in caplog.records] == ["3 of 4 documents had no score at the deadline."]
    assert reranker.stats().partial == 1
