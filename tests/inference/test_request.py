from __future__ import annotations

import gc
import time
import weakref

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
