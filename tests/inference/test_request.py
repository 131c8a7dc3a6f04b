from __future__ import annotations

import gc
import time
import weakref

import pytest

from rerank_plugins import ScoredPair, ScoringError
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.testing import toy_reranker


def test_a_finished_call_leaves_no_garbage() -> None:
    """What a call held is freed without the collector."""
    reranker = toy_reranker()
    gc.collect()
    gc.disable()
    try:
        request = reranker.scorer.submit([("q", "text")])  # type: ignore[attr-defined]
        request.result()
        held = weakref.ref(request)
        del request
        until = time.monotonic() + 5
        while held() is not None and time.monotonic() < until:
            time.sleep(0.01)  # the worker lets go of it when its step ends
        assert held() is None
    finally:
        gc.enable()


def test_scores_are_never_invented_for_lost_pairs() -> None:
    """A request whose pairs cannot all be accounted for fails, instead of giving fewer scores."""
    request = ScoringRequest([("q", "a"), ("q", "b")], None)
    request.next_unit(1000, lambda pairs: [ScoredPair(1.0, truncated=False), *[None] * (len(pairs) - 1)])
    request.settle()
    with pytest.raises(ScoringError, match="1 of 2 pairs were lost"):
        request.result()
