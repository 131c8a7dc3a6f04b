from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import pytest

from gated_engine import GatedEngine
from rerank_plugins import OverloadedError, RankedResult, Reranker, ScoringError
from rerank_plugins.inference.scheduler import PATIENCE
from rerank_plugins.testing import SlowEngine, ToyEngine, toy_reranker

Call = Future[list[RankedResult]]


class Callers:
    """Callers on threads of their own, behind one that holds the model until they are all there."""

    def __init__(self, engine: GatedEngine, reranker: Reranker, pool: ThreadPoolExecutor) -> None:
        self._engine, self._reranker, self._pool = engine, reranker, pool
        self._waiting = 1
        self.first = pool.submit(reranker.rerank, "q", ["first"])
        engine.until_begun(1)

    def ask(self, name: str, documents: int, length: int = 97) -> Call:
        """One caller more; of equal ones the first asked is the first to wait."""
        texts = [f"{name}{number}".ljust(length, "-") for number in range(documents)]
        self._waiting += documents
        call = self._pool.submit(self._reranker.rerank, "q", texts)
        while self._reranker.stats().waiting_pairs < self._waiting:
            assert not call.done(), call.exception()
        return call

    def order(self) -> list[list[str]]:
        """Let all go on; whose rows the batches held."""
        self._engine.let(1000)
        self._pool.shutdown()
        return [sorted({passage[0] for passage in batch}) for batch in self._engine.batches[1:]]


def numbered(name: str, count: int) -> list[str]:
    """Documents that differ: equal ones are one pair."""
    return [f"{name}{number}" for number in range(count)]


@pytest.fixture
def callers() -> Callers:
    """Rows of 101 characters, 5 to a batch."""
    engine = GatedEngine()
    engine.shared_token_budget = 126
    return Callers(engine, toy_reranker(engine, token_budget=505), ThreadPoolExecutor(64))


def test_a_small_request_goes_before_a_large_one(callers: Callers) -> None:
    """Ten documents behind 200 are answered after two batches, and the large request goes on then."""
    callers.ask("L", 200)
    callers.ask("s", 10)
    order = callers.order()
    assert order[:3] == [["s"], ["s"], ["L"]]


def test_equal_requests_are_answered_in_their_order(callers: Callers) -> None:
    """First come, first served: nobody is kept waiting so that all may be slow together."""
    for name in "abc":
        callers.ask(name, 10)
    assert callers.order() == [["a"], ["a"], ["b"], ["b"], ["c"], ["c"]]


def test_a_large_request_is_not_starved(callers: Callers) -> None:
    """Among ever so many small ones the large one gets a batch after `PATIENCE` others."""
    callers.ask("L", 20)
    for name in "abcdefghijklmnopqrstuvwxyz":
        callers.ask(name, 5)
    order = callers.order()
    turns = [number for number, names in enumerate(order) if "L" in names]
    assert turns == [PATIENCE, 2 * PATIENCE + 1, 3 * PATIENCE + 2, 3 * PATIENCE + 3]


def test_small_requests_share_a_batch(callers: Callers) -> None:
    """Single documents of many callers are computed together, up to the share that pays."""
    for name in "abcdefgh":
        callers.ask(name, 1, length=17)
    order = callers.order()
    # Rows of 21, of which six fit into 126 padded tokens.
    assert [len(names) for names in order] == [6, 2]


def test_requests_keep_to_themselves_where_a_batch_moves_scores() -> None:
    """On an engine that shares nothing each request is computed as if it were alone."""
    engine = GatedEngine()
    engine.shared_token_budget = 0
    callers = Callers(engine, toy_reranker(engine), ThreadPoolExecutor(64))
    for name in "abcd":
        callers.ask(name, 2, length=17)
    assert callers.order() == [["a"], ["b"], ["c"], ["d"]]


def test_the_batches_of_a_lone_request_are_full(callers: Callers) -> None:
    """50 documents of one caller make ten batches of five."""
    callers.ask("x", 50)
    assert len(callers.order()) == 10


def test_a_full_queue_refuses_at_once() -> None:
    """A call that would exceed max_queued_pairs gets an OverloadedError with the numbers."""
    engine = GatedEngine()
    reranker = toy_reranker(engine, max_queued_pairs=20)
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(reranker.rerank, "q", numbered("a", 15))
        engine.until_begun(1)
        with pytest.raises(
            OverloadedError, match=r"15 pairs of 1 calls wait already, and 6 more would exceed max_queued_pairs=20"
        ):
            reranker.rerank("q", numbered("b", 6))
        fits = pool.submit(reranker.rerank, "q", numbered("b", 5))
        engine.let(100)
        assert (len(waiting.result()), len(fits.result())) == (15, 5)
    stats = reranker.stats()
    assert (stats.requests, stats.overloaded, stats.pairs, stats.waiting_pairs) == (3, 1, 20, 0)


def test_a_call_larger_than_the_queue_is_served_when_nothing_waits() -> None:
    """max_queued_pairs bounds what waits, not what one may ask."""
    assert len(toy_reranker(max_queued_pairs=5).rerank("q", numbered("a", 50))) == 50


def test_an_overload_can_be_answered_in_retrieval_order() -> None:
    """With on_error='keep_order' the documents come back as they were found, without scores, and it is counted."""
    engine = GatedEngine()
    reranker = toy_reranker(engine, max_queued_pairs=3)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reranker.rerank, "q", ["a", "b", "c"])
        engine.until_begun(1)
        found = reranker.rerank("q", ["x", " ", "y"], top_n=2, on_error="keep_order")
        engine.let(100)
        waiting.result()
    assert [(result.index, result.score, result.truncated) for result in found] == [(0, None, None), (1, None, None)]
    assert (reranker.stats().unranked, reranker.stats().overloaded) == (1, 1)


def test_an_overload_says_how_long_the_others_take() -> None:
    """The forecast is the pairs that wait times what a pair has taken so far."""
    reranker = toy_reranker(SlowEngine(seconds=0, seconds_a_row=0.005), max_queued_pairs=60)
    for _ in range(3):
        reranker.rerank("q", numbered("a", 10))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reranker.rerank, "q", numbered("b", 50))
        while reranker.stats().waiting_pairs < 50:
            assert not waiting.done()
        with pytest.raises(OverloadedError, match=r"\(about \d+\.\d s of work\)"):
            reranker.rerank("q", numbered("c", 20))


class Alone(ToyEngine):
    """Shares no batches."""

    shared_token_budget = 0


@contextmanager
def a_stream_of_small_calls(reranker: Reranker) -> Iterator[None]:
    """Four callers that ask again as soon as they have their answer."""
    ends = threading.Event()

    def call() -> None:
        while not ends.is_set():
            reranker.rerank("q", [f"{number:x>40}" for number in range(10)])

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(call)
        yield
        ends.set()


@pytest.mark.parametrize("engine", [Alone, ToyEngine])
def test_neither_the_oldest_nor_the_shortest_starves(engine: type[ToyEngine]) -> None:
    """12 documents behind 1,500, beside callers of ten that never stop, wait for some batches and not for all."""
    reranker = toy_reranker(SlowEngine(engine(), seconds=0.001))
    with a_stream_of_small_calls(reranker), ThreadPoolExecutor(1) as pool:
        oldest = pool.submit(reranker.rerank, "q", [f"{number:y>60}" for number in range(1500)])
        while reranker.stats().waiting_pairs < 1000:
            time.sleep(0.001)
        before = reranker.stats().batches
        reranker.rerank("q", [f"{number:z>60}" for number in range(12)])
        batches = reranker.stats().batches - before
        assert not oldest.done()
        oldest.result(timeout=60)
    assert batches < 40


def calls_of(work: Callable[[], Any]) -> int:
    """How many Python and C functions are called on this thread."""
    count = 0

    def seen(_: Any, event: str, __: Any) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(seen)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_submitting_costs_the_same_however_many_wait() -> None:
    """Behind 2,000 calls a caller does no more than behind ten; else the event loop it is on would stand still."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    submit = partial(reranker.scorer.submit, [("q", "a")])  # type: ignore[attr-defined]
    requests = [submit() for _ in range(10)]
    engine.until_begun(1)
    few = calls_of(submit)
    requests += [submit() for _ in range(2000)]
    many = calls_of(submit)
    reported = calls_of(reranker.stats)
    assert many <= few + 5
    assert reported < 200
    engine.let(10_000)
    assert all(len(request.result()) == 1 for request in requests)


def test_many_models_may_start_at_once() -> None:
    """First calls of rerankers of their own, on many threads, are all answered."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: toy_reranker().rerank("q", ["a"]), range(400)))
    finally:
        sys.setswitchinterval(interval)


def test_a_worker_that_cannot_be_started_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a thread nobody waits: the call fails at once and leaves nothing behind."""

    def refuses(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    reranker = toy_reranker()
    with monkeypatch.context() as system:
        system.setattr(threading.Thread, "start", refuses)
        with pytest.raises(ScoringError, match="No thread can be started"):
            reranker.rerank("q", ["a"])
    assert reranker.stats().waiting_pairs == 0
    assert len(reranker.rerank("q", ["a"])) == 1
