from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest

from gated_engine import GatedEngine
from rerank_plugins import ClosedError, Reranker, load_reranker
from rerank_plugins.testing import SlowEngine, ToyEngine, toy_reranker

WORKER = "rerank-plugins worker"


def workers() -> list[threading.Thread]:
    """Threads of ours that run."""
    return [thread for thread in threading.enumerate() if thread.name == WORKER]


def run(script: str) -> subprocess.CompletedProcess[str]:
    """A Python process of its own, which may take 60 seconds."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )


def test_close_refuses_what_comes() -> None:
    """After close a call raises ClosedError and says what to do; closing again does nothing."""
    reranker = toy_reranker()
    reranker.rerank("q", ["a"])
    reranker.close()
    reranker.close()
    for on_error in ("raise", "keep_order"):
        with pytest.raises(ClosedError, match="Load another with load_reranker"):
            reranker.rerank("q", ["a"], on_error=on_error)  # type: ignore[arg-type]


def test_close_lets_nobody_wait() -> None:
    """Calls that wait get ClosedError at once; the batch at work is waited for, and its thread ends."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    before = set(workers())
    with ThreadPoolExecutor(3) as pool:
        calls = [pool.submit(reranker.rerank, "q", [name]) for name in ("a", "b")]
        engine.until_begun(1)
        while reranker.stats().waiting_pairs < 2:
            time.sleep(0.001)
        (thread,) = set(workers()) - before
        closing = pool.submit(reranker.close)
        for call in calls:
            with pytest.raises(ClosedError, match="closed while this call waited"):
                call.result(timeout=10)
        assert not closing.done()
        engine.let()
        closing.result(timeout=10)
    assert not thread.is_alive()


def test_a_with_block_closes() -> None:
    """A reranker is a context manager."""
    with toy_reranker() as reranker:
        assert len(reranker.rerank("q", ["a", "b"])) == 2
    with pytest.raises(ClosedError):
        reranker.rerank("q", ["a"])


def test_a_closed_reranker_is_not_shared_again() -> None:
    """An adapter that names a model whose shared reranker was closed gets one that works."""
    from rerank_plugins.langchain import RerankCrossEncoder

    adapter = RerankCrossEncoder(model="rerank-mini-en", max_length=77)
    first = adapter._reranker()
    first.close()
    assert len(adapter.score([("q", "a")])) == 1
    assert adapter._reranker() is not first
    adapter._reranker().close()


def test_a_dropped_reranker_takes_its_thread_and_its_model_along() -> None:
    """Who loads a model and forgets it keeps neither its thread nor its memory."""
    engine = ToyEngine()
    held, before = weakref.ref(engine), set(workers())
    reranker: Reranker | None = toy_reranker(engine)
    del engine
    assert reranker is not None
    reranker.rerank("q", ["a"])
    (thread,) = set(workers()) - before
    reranker = None
    gc.collect()
    thread.join(10)
    assert not thread.is_alive()
    assert held() is None


def test_one_thread_however_many_calls() -> None:
    """Threads that call, loops that come and go: one thread computes."""
    reranker = toy_reranker()
    before = set(workers())
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: reranker.rerank("q", [f"{n}"]), range(50)))
    for _ in range(3):
        assert len(asyncio.run(reranker.arerank("q", ["a", "b"]))) == 2
    assert len(set(workers()) - before) == 1
    reranker.close()


def test_a_loop_that_ends_too_soon_harms_nobody() -> None:
    """A task whose loop ends while it waits is dropped, and the next loop is served."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    loop = asyncio.new_event_loop()
    task = loop.create_task(reranker.arerank("q", ["lost"]))
    loop.run_until_complete(asyncio.sleep(0.01))
    engine.until_begun(1)
    loop.close()
    engine.let(10)
    assert len(asyncio.run(reranker.arerank("q", ["a"]))) == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it never ended, which is the point


async def test_a_cancelled_task_is_dropped_before_it_is_computed() -> None:
    """Its pairs never reach the model, those that wait no longer count, and the others are answered."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    first = asyncio.create_task(reranker.arerank("q", ["first"]))
    await asyncio.to_thread(engine.until_begun, 1)
    gone = asyncio.create_task(reranker.arerank("q", [f"gone {number}" for number in range(30)]))
    stays = asyncio.create_task(reranker.arerank("q", ["stays"]))
    await asyncio.sleep(0)
    assert reranker.stats().waiting_pairs == 32
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert reranker.stats().waiting_pairs == 2
    engine.let(10)
    assert len(await first) == len(await stays) == 1
    assert engine.batches == [["first"], ["stays"]]
    assert reranker.stats().cancelled == 1


async def test_what_a_cancelled_task_had_not_computed_yet_is_dropped() -> None:
    """A large request is left after the batch at work, and the model is free again."""
    engine = GatedEngine()
    reranker = toy_reranker(engine, token_budget=100)
    task = asyncio.create_task(reranker.arerank("q", [f"long enough {number:03}" for number in range(500)]))
    engine.let()
    await asyncio.to_thread(engine.until_begun, 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    engine.let(2)
    assert len(await reranker.arerank("q", ["next"])) == 1
    assert engine.batches[2:] == [["next"]]


def test_an_interpreter_ends_while_calls_wait() -> None:
    """Threads that nobody waits for, and a batch at work, do not hold up the end of a process."""
    done = run(
        "import contextlib, threading, time\n"
        "from rerank_plugins import ClosedError\n"
        "from rerank_plugins.testing import SlowEngine, toy_reranker\n"
        "reranker = toy_reranker(SlowEngine(seconds=0.5))\n"
        "def call():\n"
        "    with contextlib.suppress(ClosedError):\n"
        "        reranker.rerank('q', [f'a {n}' for n in range(2000)])\n"
        "for _ in range(5):\n"
        "    threading.Thread(target=call, daemon=True).start()\n"
        "time.sleep(0.2)\n"
        "print('end')\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["", "del reranker", "reranker.close()"])
def test_an_interpreter_ends_cleanly_with_a_real_model(how: str) -> None:
    """Whether the reranker is used to the end, dropped or closed: exit status 0 and no word."""
    done = run(
        "from rerank_plugins import load_reranker\n"
        "reranker = load_reranker('rerank-mini-en')\n"
        "print(len(reranker.rerank('a phone', ['apples', 'a phone of titanium'])))\n"
        f"{how}\n"
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "2\n", "")


def test_an_interrupt_gives_the_call_up() -> None:
    """Who presses Ctrl-C while a call waits gets the prompt back, and what was not computed is dropped."""
    import signal

    reranker = toy_reranker(SlowEngine(seconds=0.05), token_budget=100)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # jobs in the background ignore it
    try:
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            reranker.rerank("q", [f"some text {number}" for number in range(5000)])
    finally:
        signal.signal(signal.SIGINT, before)
    time.sleep(0.1)
    assert (reranker.stats().waiting_pairs, reranker.stats().cancelled) == (0, 1)
    batches = reranker.stats().batches
    time.sleep(0.2)
    assert reranker.stats().batches <= batches + 1


def test_a_loaded_model_is_shared_by_many_loops() -> None:
    """One reranker serves event loops on several threads at once."""
    reranker = load_reranker("rerank-mini-en")
    texts = ["apples are healthy", "the phone has a frame of titanium"]

    async def calls() -> list[int]:
        answers = await asyncio.gather(*(reranker.arerank("a phone", texts) for _ in range(5)))
        return [results[0].index for results in answers]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: asyncio.run(calls()), range(4))) == [[1] * 5] * 4


async def test_closing_leaves_the_loop_free() -> None:
    """``aclose`` waits for the batch at work beside the event loop."""
    engine = GatedEngine()
    reranker = toy_reranker(engine)
    call = asyncio.create_task(reranker.arerank("q", ["a"]))
    await asyncio.to_thread(engine.until_begun, 1)
    closing = asyncio.create_task(reranker.aclose())
    with pytest.raises(ClosedError):  # delivered by the loop, while the batch goes on
        await call
    assert not closing.done()
    engine.let()
    await closing
