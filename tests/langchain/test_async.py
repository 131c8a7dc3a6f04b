"""The adapters beside other work on an event loop."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest
from langchain_core.documents import Document

from heartbeat import longest_gap
from langchain_stand_ins import QUERY, TEXTS, Fixed, Slow, documents
from rerank_plugins import Pair, Reranker
from rerank_plugins.langchain import RerankCompressor, RerankRetriever


def test_async_leaves_the_event_loop_free() -> None:
    """While a scorer works for 300 ms, no beats of a 10 ms heartbeat are 50 ms apart, at best of three tries."""
    # The machine may have other work; blocking would show in every try.
    compressor = RerankCompressor(reranker=Slow())
    assert any(longest_gap(compressor.acompress_documents(documents(), QUERY)) < 0.05 for _ in range(3))


def test_a_slow_document_text_leaves_the_event_loop_free() -> None:
    """A callable that takes 300 ms a document is not called on the loop."""

    def read(document: Document) -> str:
        time.sleep(0.1)
        return document.page_content

    compressor = RerankCompressor(reranker=Slow(), document_text=read)
    assert any(longest_gap(compressor.acompress_documents(documents(), QUERY)) < 0.05 for _ in range(3))


def test_async_scores_off_the_loop() -> None:
    """The scorer never runs on the event loop's own thread."""
    scorer = Slow()

    async def main() -> int:
        await RerankCompressor(reranker=scorer).acompress_documents(documents(), QUERY)
        return threading.get_ident()

    assert asyncio.run(main()) not in scorer.threads


def test_concurrent_calls_give_what_serial_calls_give(box: Reranker) -> None:
    """20 calls at once, of lengths and top_n of their own, give the documents and scores of 20 calls in turn."""
    compressor = RerankCompressor(reranker=box)
    calls = [
        (
            [Document(f"{text} {'and so on ' * (n % 7)}", id=f"{n}") for text in TEXTS[: 1 + n % 3]],
            f"{QUERY} {n}",
            n % 4,
        )
        for n in range(20)
    ]
    serial = [compressor.compress_documents(given, query, top_n=top_n) for given, query, top_n in calls]

    async def main() -> list[list[Document]]:
        return await asyncio.gather(
            *(compressor.acompress_documents(given, query, top_n=top_n) for given, query, top_n in calls)
        )

    assert asyncio.run(main()) == serial


def test_concurrent_retrievals_give_what_serial_ones_give(box: Reranker) -> None:
    """The retriever's async path gives the sync one's documents, 20 at once."""
    retriever = RerankRetriever(base_retriever=Fixed(held=documents()), reranker=box, top_n=2)
    queries = [f"{QUERY} {n}" for n in range(20)]

    async def main() -> list[list[Document]]:
        return await asyncio.gather(*(retriever.ainvoke(query) for query in queries))

    assert asyncio.run(main()) == [retriever.invoke(query) for query in queries]


def test_a_stop_iteration_does_not_hang() -> None:
    """A callable that runs out of an iterator ends the call with an error, where a future would wait for ever."""

    class Exhausted:
        def score(self, pairs: list[Pair], /) -> list[float]:
            return [next(iter(())) for _ in pairs]

    def read(_: Document) -> str:
        return next(iter(()))

    for compressor in (RerankCompressor(reranker=Exhausted()), RerankCompressor(reranker=Slow(), document_text=read)):
        with pytest.raises(RuntimeError, match="StopIteration"):
            asyncio.run(asyncio.wait_for(compressor.acompress_documents(documents(), QUERY), timeout=10))


def test_the_first_use_loads_once() -> None:
    """20 calls at once over an unloaded model share one."""
    compressors = [RerankCompressor(model="rerank-mini-en", max_length=77) for _ in range(20)]

    async def main() -> None:
        await asyncio.gather(*(compressor.acompress_documents(documents(), QUERY) for compressor in compressors))

    asyncio.run(main())
    assert len({id(compressor._reranker()) for compressor in compressors}) == 1
