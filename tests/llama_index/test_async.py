"""`RerankPostprocessor` beside other work on an event loop."""

from __future__ import annotations

import asyncio
import shutil
import threading
from pathlib import Path

import pytest
from llama_index.core.schema import NodeWithScore, TextNode

from heartbeat import longest_gap
from llama_index_stand_ins import QUERY, TEXTS, Slow, nodes
from rerank_plugins import Pair, Reranker
from rerank_plugins.hub import find_model
from rerank_plugins.llama_index import RerankPostprocessor


def test_async_leaves_the_event_loop_free() -> None:
    """While a scorer works for 300 ms, no beats of a 10 ms heartbeat are 50 ms apart, at best of three tries."""
    # The machine may have other work; blocking would show in every try.
    postprocessor = RerankPostprocessor(reranker=Slow())
    assert any(longest_gap(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY)) < 0.05 for _ in range(3))


def test_async_scores_off_the_loop() -> None:
    """The scorer never runs on the event loop's own thread."""
    scorer = Slow()

    async def main() -> int:
        await RerankPostprocessor(reranker=scorer).apostprocess_nodes(nodes(), query_str=QUERY)
        return threading.get_ident()

    assert asyncio.run(main()) not in scorer.threads


def test_concurrent_calls_give_what_serial_calls_give(box: Reranker) -> None:
    """20 calls at once, with nodes of their own, give the nodes and scores of 20 calls in turn."""
    postprocessor = RerankPostprocessor(reranker=box)
    calls = [
        [NodeWithScore(node=TextNode(text=f"{text} {'and so on ' * (n % 7)}", id_=text)) for text in TEXTS[: 1 + n % 3]]
        for n in range(20)
    ]
    serial = [postprocessor.postprocess_nodes(given, query_str=f"{QUERY} {n}") for n, given in enumerate(calls)]

    async def main() -> list[list[NodeWithScore]]:
        return await asyncio.gather(
            *(postprocessor.apostprocess_nodes(given, query_str=f"{QUERY} {n}") for n, given in enumerate(calls))
        )

    assert asyncio.run(main()) == serial


def test_a_list_changed_meanwhile_changes_nothing() -> None:
    """What the caller does to its list while the scorer works moves no score to another node."""

    async def main() -> list[NodeWithScore]:
        held = nodes()
        task = asyncio.create_task(RerankPostprocessor(reranker=Slow()).apostprocess_nodes(held, query_str=QUERY))
        await asyncio.sleep(0.1)
        held.clear()
        return await task

    assert asyncio.run(main()) == RerankPostprocessor(reranker=Slow()).postprocess_nodes(nodes(), query_str=QUERY)


def test_the_sync_method_works_on_a_running_loop(postprocessor: RerankPostprocessor) -> None:
    """LlamaIndex's evaluators call it there; it gives what it gives elsewhere."""

    async def main() -> list[NodeWithScore]:
        return postprocessor.postprocess_nodes(nodes(), query_str=QUERY)

    assert asyncio.run(main()) == postprocessor.postprocess_nodes(nodes(), query_str=QUERY)


def test_one_postprocessor_serves_several_loops(postprocessor: RerankPostprocessor) -> None:
    """It holds nothing of the loop it was first used on."""
    first, second = (asyncio.run(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY)) for _ in range(2))
    assert first == second


def test_a_stop_iteration_does_not_hang() -> None:
    """A scorer that runs out of an iterator ends the call with an error, where a future would wait for ever."""

    class Exhausted:
        def score(self, pairs: list[Pair], /) -> list[float]:
            return [next(iter(())) for _ in pairs]

    postprocessor = RerankPostprocessor(reranker=Exhausted())
    with pytest.raises(RuntimeError, match="StopIteration"):
        postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    with pytest.raises(RuntimeError, match="StopIteration"):
        asyncio.run(asyncio.wait_for(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY), timeout=10))


def test_the_model_loads_off_the_loop(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """The first async call loads it on another thread, as the log of the loading shows."""

    async def main() -> int:
        # A copy: nothing else in this process has loaded it.
        copy = shutil.copytree(find_model("rerank-mini-en"), tmp_path / "model")
        postprocessor = RerankPostprocessor(model=copy)
        await postprocessor.apostprocess_nodes(nodes(), query_str=QUERY)
        return threading.get_ident()

    with caplog.at_level("INFO", logger="rerank_plugins"):
        loop_thread = asyncio.run(main())
    loaded_on = [record.thread for record in caplog.records if "openvino, int8 on cpu" in record.getMessage()]
    assert len(loaded_on) == 1
    assert loaded_on != [loop_thread]
