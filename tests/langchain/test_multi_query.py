"""LangChain's MultiQueryRetriever, which asks what an LLM wrote, line by line."""

from __future__ import annotations

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever, MultiQueryRetriever
from langchain_core.documents import Document
from langchain_core.language_models import FakeListLLM
from langchain_core.retrievers import BaseRetriever

from langchain_stand_ins import QUERY, Fixed, documents
from rerank_plugins import Reranker
from rerank_plugins.langchain import RerankCompressor, RerankRetriever

OTHER = "What is a healthy fruit?"


def around(name: str, box: Reranker) -> BaseRetriever:
    """The best document of three, by either way of reranking in a retriever."""
    base = Fixed(held=documents())
    if name == "RerankRetriever":
        return RerankRetriever(base_retriever=base, reranker=box, top_n=1)
    compressor = RerankCompressor(reranker=box, top_n=1)
    return ContextualCompressionRetriever(base_retriever=base, base_compressor=compressor)


def asking(retriever: BaseRetriever, *queries: str) -> MultiQueryRetriever:
    """It, behind an LLM that answers every question with these queries."""
    return MultiQueryRetriever.from_llm(retriever, FakeListLLM(responses=["\n".join(queries)]))


@pytest.mark.parametrize("blank", [" ", "\t", "\u200b", "\u3000\ufeff"], ids=ascii)
@pytest.mark.parametrize("name", ["RerankRetriever", "ContextualCompressionRetriever"])
async def test_an_empty_line_costs_no_other_query(
    name: str, blank: str, box: Reranker, caplog: pytest.LogCaptureFixture
) -> None:
    """What the other queries find comes back, nothing for the blank one, and the log says so; sync and async."""
    retriever = around(name, box)
    expected = asking(retriever, QUERY, OTHER).invoke("the question")
    assert [document.id for document in expected] == ["d1", "d0"]
    assert not caplog.records
    with_blank = asking(retriever, QUERY, blank, OTHER)
    assert with_blank.invoke("the question") == expected
    assert await with_blank.ainvoke("the question") == expected
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == ["The query is blank"] * 2


@pytest.mark.parametrize("name", ["RerankRetriever", "ContextualCompressionRetriever"])
def test_a_blank_query_alone_finds_nothing(name: str, box: Reranker) -> None:
    """No document looks like an answer to no question."""
    assert around(name, box).invoke(" ") == []


def test_the_run_of_a_blank_query_says_what_became_of_it(box: Reranker) -> None:
    """It is in the trace like others: three documents in, none out."""
    from langchain_core.tracers.run_collector import RunCollectorCallbackHandler

    collector = RunCollectorCallbackHandler()
    compressor = RerankCompressor(reranker=box)
    assert compressor.compress_documents(documents(), "\u200b", [collector]) == []
    (run,) = collector.traced_runs
    assert run.extra is not None
    assert {key: run.extra["metadata"][key] for key in ("n_in", "n_out", "scores", "unscored")} == {
        "n_in": 3,
        "n_out": 0,
        "scores": [],
        "unscored": 0,
    }


def test_a_blank_query_asks_no_base_retriever() -> None:
    """What it would find is thrown away, and it may fail for such a query itself."""

    class Fails(BaseRetriever):
        def _get_relevant_documents(self, query: str, **_: object) -> list[Document]:
            raise AssertionError(query)

    assert RerankRetriever(base_retriever=Fails(), model="no/such-model").invoke("  ") == []
