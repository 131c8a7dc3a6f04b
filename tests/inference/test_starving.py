"""Defects that a review of the scheduler found, each with the promise that it broke."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from gated_engine import GatedEngine
from heartbeat import longest_gap
from rerank_plugins import Pair, Reranker, ScoredPair, ScoringError
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import SlowEngine, ToyEngine, toy_reranker


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
    """12 documents behind 3,000, beside callers of ten that never stop, wait for some batches and not for all."""
    reranker = toy_reranker(SlowEngine(engine(), seconds=0.005))
    with a_stream_of_small_calls(reranker), ThreadPoolExecutor(1) as pool:
        oldest = pool.submit(reranker.rerank, "q", [f"{number:y>60}" for number in range(3000)])
        while reranker.stats().waiting_pairs < 2000:
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


class PanicError(BaseException):
    """As a Rust extension raises: no Exception."""


def test_a_panic_while_encoding_is_its_requests_own() -> None:
    """Whose texts the tokenizer fails on gets a ScoringError, no pair is lost, and no neighbour or thread is harmed."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    encoder: Any = reranker.scorer.encoder  # type: ignore[attr-defined]
    windows = encoder.windows

    def panics(pairs: list[Pair]) -> Any:
        if any("POISON" in passage for _, passage in pairs):
            raise PanicError("no")
        return windows(pairs)

    encoder.windows = panics
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(reranker.rerank, "q", ["first"])
        engine.until_begun(1)
        good = pool.submit(reranker.rerank, "q", ["a"])
        bad = pool.submit(reranker.rerank, "q", ["POISON", "fine"])
        while reranker.stats().waiting_pairs < 4:
            time.sleep(0.001)
        engine.let(10)
        assert len(first.result()) == len(good.result()) == 1
        with pytest.raises(ScoringError, match="The model failed: PanicError: no"):
            bad.result()
    assert reranker.stats().worker_restarts == 0


def test_many_models_may_start_at_once() -> None:
    """First calls of rerankers of their own, on many threads, are all answered."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(lambda _: toy_reranker().rerank("q", ["a"]), range(400)))
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.slow
def test_a_fork_while_rerankers_are_made() -> None:
    """Children rerank though other threads of the parent make and drop rerankers."""
    script = (
        "import os, signal, sys, threading\n"
        "from rerank_plugins.testing import toy_reranker\n"
        "sys.setswitchinterval(1e-6)\n"
        "reranker, ends, made = toy_reranker(), threading.Event(), []\n"
        "reranker.rerank('q', ['a'])\n"
        "def make():\n"
        "    while not ends.is_set():\n"
        "        made.append(toy_reranker())\n"
        "        if len(made) > 60:\n"
        "            del made[:30]\n"
        "threads = [threading.Thread(target=make) for _ in range(4)]\n"
        "[thread.start() for thread in threads]\n"
        "for _ in range(100):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        signal.alarm(20)\n"
        "        os._exit(0 if len(reranker.rerank('q', ['child'])) == 1 else 3)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
        "ends.set()\n"
        "[thread.join() for thread in threads]\n"
        "print('done')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


@pytest.mark.slow
def test_a_fork_while_a_model_loads() -> None:
    """A child can load a model although a thread of its parent was loading another."""
    script = (
        "import os, signal, threading\n"
        "from rerank_plugins.langchain import RerankCrossEncoder\n"
        "from rerank_plugins.loading import LoadingOptions\n"
        "load, begun, goes_on = LoadingOptions.load, threading.Event(), threading.Event()\n"
        "def slow(options):\n"
        "    begun.set()\n"
        "    goes_on.wait()\n"
        "    return load(options)\n"
        "LoadingOptions.load = slow\n"
        "adapter = RerankCrossEncoder(model='rerank-mini-en')\n"
        "thread = threading.Thread(target=adapter.score, args=([('q', 'a')],))\n"
        "thread.start()\n"
        "begun.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    signal.alarm(30)\n"
        "    LoadingOptions.load = load\n"
        "    os._exit(0 if len(RerankCrossEncoder(model='rerank-mini-en').score([('q', 'a')])) == 1 else 3)\n"
        "status = os.waitpid(child, 0)[1]\n"
        "goes_on.set()\n"
        "thread.join()\n"
        "print(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "0\n"), done.stderr


@pytest.mark.parametrize("deadline", [1e10, 1e308])
async def test_a_deadline_may_be_ages_away(deadline: float) -> None:
    """It is as good as none, sync and async, and harms no neighbour."""
    reranker = toy_reranker()
    reranker.rerank("q", ["a"])
    assert reranker.rerank("q", ["a"], deadline=deadline)[0].score is not None
    late, other = await asyncio.gather(reranker.arerank("q", ["a"], deadline=deadline), reranker.arerank("q", ["b"]))
    assert late[0].score is not None
    assert other[0].score is not None
    assert reranker.stats().worker_restarts == 0


def test_the_wait_of_a_call_that_never_had_its_turn_is_counted() -> None:
    """Under overload, when it matters, queue_seconds grows."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(reranker.rerank, "q", ["first"])
        engine.until_begun(1)
        with pytest.raises(TimeoutError, match=r"\(0\.[1-9]\d\d s of it before their turn came\)"):
            reranker.rerank("q", ["late"], deadline=0.2, on_deadline="raise")
        assert reranker.stats().queue_seconds >= 0.2
        engine.let(5)
        first.result()


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


class Counting(ScoreCache):
    """Remembers how many pairs it was asked for at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__("toy", 5000, folder)
        self.asked: list[int] = []

    def get(self, pairs: Sequence[Pair]) -> list[ScoredPair | None]:
        """As `ScoreCache.get`."""
        self.asked.append(len(pairs))
        return super().get(pairs)


def test_known_scores_are_given_at_any_deadline(tmp_path: Path) -> None:
    """3,000 documents whose scores are on disk are looked up in large lots, in a process that never computed."""
    texts, encoder = [f"text {number}" for number in range(3000)], toy_reranker().scorer.encoder  # type: ignore[attr-defined]

    def reranker(engine: Any, cache: ScoreCache) -> Reranker:
        return Reranker(CrossEncoderScorer(encoder, engine, cache=cache))

    with reranker(ToyEngine(), ScoreCache("toy", 5000, tmp_path)) as first:
        whole = first.rerank("q", texts)
    cache = Counting(tmp_path)
    with reranker(SlowEngine(seconds=60), cache) as second:
        assert second.rerank("q", texts, deadline=20) == whole
    assert (sum(cache.asked), len(cache.asked)) == (3000, 6)


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


def test_closing_leaves_the_loop_free() -> None:
    """``async with`` waits for the batch at work beside the event loop."""

    async def work() -> None:
        async with toy_reranker(SlowEngine(seconds=0.4)) as reranker:
            task = asyncio.create_task(reranker.arerank("q", ["a"]))
            await asyncio.sleep(0.1)
        with pytest.raises(Exception, match="closed"):
            await task

    assert longest_gap(work()) < 0.2


@pytest.mark.parametrize("change", [-1, 1])
def test_a_wrong_number_of_logits_is_an_error(change: int) -> None:
    """An engine that gives one too few, or too many, is found out, and the thread lives on."""

    class Miscounts(ToyEngine):
        def logits(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
            found = super().logits(input_ids, attention_mask, token_type_ids)
            return found[:change] if change < 0 else [*found, 0.0]

    reranker = toy_reranker(Miscounts())
    with pytest.raises(ScoringError, match=r"The engine gave \d logits for 3 rows"):
        reranker.rerank("q", ["a", "b", "c"])
    assert reranker.stats().worker_restarts == 0


def test_scores_are_never_invented_for_lost_pairs() -> None:
    """A request whose pairs cannot all be accounted for fails, instead of giving fewer scores."""
    from rerank_plugins.inference.request import ScoringRequest

    request = ScoringRequest([("q", "a"), ("q", "b")], None)
    request.next_unit(1000, lambda pairs: [ScoredPair(1.0, truncated=False), *[None] * (len(pairs) - 1)])
    request.settle()
    with pytest.raises(ScoringError, match="1 of 2 pairs were lost"):
        request.result()
