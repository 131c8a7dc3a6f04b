"""Calls of a server's reranker: many callers, deadlines, caches, closing; as of a model that runs here."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

import pytest

from rerank_plugins import (
    ClosedError,
    DeadlineExceededError,
    InvalidInputError,
    OverloadedError,
    RemoteError,
    Reranker,
    load_reranker,
)
from rerank_plugins.scorers.remote import RemoteScorer
from rerank_servers import Fault, RerankServer, rerank_server

DOCUMENTS = ["first", "the second", "and the third"]
MANY = [f"{number:03}" * number for number in range(1, 101)]
TEI = {"model_id": "m", "model_type": {"reranker": {}}, "max_client_batch_size": 10}


def live_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("rerank-plugins tei")]


def count_threads() -> int:
    """Without the stand-in's own, which has one for every connection."""
    return sum("process_request_thread" not in thread.name for thread in threading.enumerate())


def test_large_calls_are_split_and_run_side_by_side() -> None:
    """100 documents at 10 a request take 10 requests, 8 at a time at most, and are ranked as one."""
    with rerank_server("tei", info=TEI) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", ["asks for the limits"])
        server.delay = 0.05
        results = reranker.rerank("q", MANY)
        assert [one.index for one in results] == list(range(99, -1, -1))
        assert [len(body["texts"]) for body in server.bodies[1:]] == [10] * 10
        assert 2 <= server.most_at_work <= 8


async def test_an_event_loop_is_not_blocked_and_no_call_takes_a_thread() -> None:
    """30 calls wait at the same time for a slow server, on one thread besides the loop's own."""
    with rerank_server("tei", info=TEI) as server:
        async with load_reranker(server.model) as reranker:
            await reranker.arerank("q", DOCUMENTS)
            before, server.delay = count_threads(), 0.3
            start = time.monotonic()
            calls = [asyncio.create_task(reranker.arerank(f"q{number}", DOCUMENTS)) for number in range(30)]
            await asyncio.sleep(0.15)
            assert count_threads() == before
            rankings = await asyncio.gather(*calls)
            assert time.monotonic() - start < 30 * 0.3 / 2
            assert live_threads() == ["rerank-plugins tei"]
    assert all([one.index for one in ranking] == [2, 1, 0] for ranking in rankings)
    assert live_threads() == []


def test_threads_and_event_loops_share_connections() -> None:
    """One after the other they need one; a loop that has ended takes none with it."""
    with rerank_server("tei", info=TEI) as server, load_reranker(server.model) as reranker:
        for _ in range(3):
            asyncio.run(reranker.arerank("q", DOCUMENTS))
            reranker.rerank("q", DOCUMENTS)
        assert server.connections == 1


def test_a_partial_deadline_gives_the_scores_that_came() -> None:
    """Documents of a request that is slow have no score, and follow the others in their order."""
    with rerank_server("tei", info=TEI) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", ["asks for the limits"])
        server.faults.append(Fault(seconds=2.0))
        start = time.monotonic()
        results = reranker.rerank("q", MANY[:20], deadline=0.6)
        assert time.monotonic() - start < 1.5
        assert len([one for one in results if one.score is None]) == 10
        unscored = [one.index for one in results[10:]]
        assert unscored in (list(range(10)), list(range(10, 20)))
        assert reranker.stats().partial == 1


async def test_a_deadline_that_raises() -> None:
    """Says how many documents had a score, and what to do."""
    with rerank_server("tei", info=TEI) as server:
        async with load_reranker(server.model) as reranker:
            server.delay = 1.0
            with pytest.raises(DeadlineExceededError, match=r"^0 of 3 documents .* deadline=0\.1 s, from tei at http"):
                await reranker.arerank("q", DOCUMENTS, deadline=0.1, on_deadline="raise")
            assert reranker.stats().expired == 1


async def test_a_call_that_is_cancelled_gives_its_request_up() -> None:
    """The connection is closed, so that the server can stop; others go on."""
    with rerank_server() as server:
        async with load_reranker(server.model) as reranker:
            server.faults.append(Fault(seconds=0.5))
            call = asyncio.create_task(reranker.arerank("q", DOCUMENTS))
            await asyncio.sleep(0.1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert len(await reranker.arerank("q", DOCUMENTS)) == 3
            stats = reranker.stats()
            assert (stats.cancelled, stats.waiting_pairs) == (1, 0)


def test_too_many_waiting_pairs_are_refused_at_once() -> None:
    """``max_queued_pairs`` bounds what waits for a server too."""
    with rerank_server() as server, load_reranker(server.model, max_queued_pairs=4) as reranker:
        server.faults.append(Fault(seconds=0.5))
        first = threading.Thread(target=reranker.rerank, args=("q", DOCUMENTS))
        first.start()
        wait_for(server, 1)
        with pytest.raises(OverloadedError, match=r"3 pairs wait for cohere at .* already, and 2 more"):
            reranker.rerank("q", ["a", "b"])
        first.join()
        assert len(reranker.rerank("q", MANY)) == 100


def wait_for(server: RerankServer, requests: int) -> None:
    """Until the server has so many requests at work."""
    end = time.monotonic() + 5
    while server.at_work < requests and time.monotonic() < end:
        time.sleep(0.01)


def test_closing_ends_calls_that_wait() -> None:
    """They fail with `ClosedError`, as later ones do, and the thread is gone."""
    errors: list[BaseException] = []
    with rerank_server("tei", info=TEI) as server:
        reranker = load_reranker(server.model)
        server.delay = 2.0

        def call() -> None:
            with pytest.raises(ClosedError) as caught:
                reranker.rerank("q", DOCUMENTS, on_error="keep_order")
            errors.append(caught.value)

        waiting = threading.Thread(target=call)
        waiting.start()
        wait_for(server, 1)
        reranker.close()
        waiting.join()
        assert live_threads() == []
        assert [str(error) for error in errors] == [
            "The reranker was closed while this call waited. Close it after the last call."
        ]
        with pytest.raises(ClosedError, match="is closed"):
            reranker.rerank("q", DOCUMENTS)
        reranker.close()


def test_a_scorer_that_nobody_holds_ends_its_thread() -> None:
    """As a model's does."""
    with rerank_server("tei", info=TEI) as server:
        load_reranker(server.model).rerank("q", DOCUMENTS)
        end = time.monotonic() + 5
        while live_threads() and time.monotonic() < end:
            time.sleep(0.01)
        assert live_threads() == []


def test_cached_scores_are_not_asked_for_again(tmp_path: Path) -> None:
    """In memory and on disk; a pair that is not in the cache is asked for alone. Other models have other scores."""
    cache = {"score_cache": 100, "score_cache_folder": tmp_path}
    with rerank_server("vllm") as server:
        with load_reranker(server.model, **cache) as reranker:
            first = reranker.rerank("q", DOCUMENTS)
            assert reranker.rerank("q", [*DOCUMENTS, "new"])[:3] == first
            assert [body["documents"] for body in server.bodies] == [DOCUMENTS, ["new"]]
            stats = reranker.stats()
            assert (stats.cache_hits, stats.cache_misses) == (3, 4)
        with load_reranker(server.model, **cache) as reranker:
            assert reranker.rerank("q", DOCUMENTS) == first
            assert len(server.bodies) == 2


def test_a_cache_is_refused_where_scores_depend_on_the_other_documents() -> None:
    """Of a listwise model."""
    with pytest.raises(InvalidInputError, match="depends on the others of the call"):
        load_reranker("jina:jina-reranker-v3", api_key="key", score_cache=10)


def test_equal_documents_are_sent_once() -> None:
    """As a model here computes them once, and blank ones never."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        results = reranker.rerank("q", ["a", " ", "bb", "a"])
        assert [one.index for one in results] == [2, 0, 3, 1]
        assert server.bodies[0]["documents"] == ["a", "bb"]


def test_texts_that_utf8_cannot_carry_are_sent_without_what_it_cannot() -> None:
    """A lone surrogate becomes U+FFFD; the document comes back as it was given."""
    with rerank_server() as server, load_reranker(server.model) as reranker:
        (result,) = reranker.rerank("q\ud800", ["a\udfff b"])
        assert result.document == "a\udfff b"
        assert (server.bodies[0]["query"], server.bodies[0]["documents"]) == ("q\ufffd", ["a\ufffd b"])


def test_a_declared_scale_can_be_overruled() -> None:
    """llama.cpp gives probabilities of Qwen3-Reranker: `Reranker` says so, and no sigmoid is applied to them."""
    with (
        rerank_server("llamacpp") as server,
        Reranker(RemoteScorer.from_name(server.model), scale="probability") as reranker,
    ):
        assert reranker.rerank("q", ["a" * 130])[0].score == pytest.approx(0.3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_has_connections_of_its_own() -> None:
    """Parent and child rerank after a fork, the child over another connection, and neither disturbs the other."""
    with rerank_server("tei", info=TEI) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", DOCUMENTS)
        child = os.fork()
        if not child:
            code = 1
            try:
                code = 0 if [one.index for one in reranker.rerank("q", DOCUMENTS)] == [2, 1, 0] else 2
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert [one.index for one in reranker.rerank("q", DOCUMENTS)] == [2, 1, 0]
        assert server.connections == 2


def test_the_first_error_of_several_requests_is_raised() -> None:
    """As itself, and not as a group."""
    with rerank_server("tei", info=TEI) as server, load_reranker(server.model) as reranker:
        reranker.rerank("q", ["asks for the limits"])
        server.faults += [Fault(400)] * 10
        with pytest.raises(RemoteError, match="answered 400"):
            reranker.rerank("q", MANY)
