"""`RerankRetriever`, with LangChain's own suite for retrievers."""

from __future__ import annotations

import asyncio
import copy
import pickle
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import ConfigurableField, RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import RetrieversIntegrationTests
from pydantic import ValidationError

from langchain_stand_ins import QUERY, TEXTS, ByLength, Fixed, Remembers, documents
from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins.langchain import RerankCompressor, RerankRetriever


class TestRerankRetriever(RetrieversIntegrationTests):
    """LangChain's standard tests, whole."""

    @property
    def retriever_constructor(self) -> type[BaseRetriever]:
        """The class under test."""
        return RerankRetriever

    @property
    def retriever_constructor_params(self) -> dict[str, Any]:
        """A base retriever of three documents and the model in the box."""
        return {"base_retriever": Fixed(held=documents()), "model": "rerank-mini-en"}

    @property
    def retriever_query_example(self) -> str:
        """A question that one of them answers."""
        return QUERY

    @property
    def num_results_arg_name(self) -> str:
        """What the number of results is called."""
        return "top_n"


def store(count: int = 70) -> InMemoryVectorStore:
    """A vector store of ``count`` passages of one to ``count`` letters."""
    return InMemoryVectorStore.from_texts(["x" * n for n in range(1, count + 1)], DeterministicFakeEmbedding(size=8))


def candidates(**fields: Any) -> int:
    """How many passages the reranker gets to score."""
    scorer = Remembers()
    call = fields.pop("call", {})
    RerankRetriever(reranker=scorer, **fields).invoke(QUERY, **call)
    return len(scorer.passages)


def test_the_best_passage_comes_first(box: Reranker) -> None:
    """Of another retriever's documents the one that answers comes first, with its score."""
    best = RerankRetriever(base_retriever=Fixed(held=documents()), reranker=box, top_n=1).invoke(QUERY)
    assert [document.page_content for document in best] == [TEXTS[1]]
    assert type(best[0].metadata["relevance_score"]) is float


def test_a_vector_store_is_asked_for_50_candidates() -> None:
    """Its default of 4 does not stand in the way, with MMR neither."""
    assert candidates(base_retriever=store().as_retriever()) == 50
    assert candidates(base_retriever=store().as_retriever(search_type="mmr")) == 50


def test_fetch_k_says_how_many_candidates() -> None:
    """Given, it counts; not given, the store's own k does; never fewer than top_n."""
    assert candidates(base_retriever=store().as_retriever(), fetch_k=7) == 7
    assert candidates(base_retriever=store().as_retriever(search_kwargs={"k": 20})) == 20
    assert candidates(base_retriever=store().as_retriever(search_kwargs={"k": 20}), fetch_k=30) == 30
    assert candidates(base_retriever=store().as_retriever(), fetch_k=7, top_n=12) == 12
    assert candidates(base_retriever=store().as_retriever(), fetch_k=7, call={"top_n": 60}) == 60
    assert candidates(base_retriever=store().as_retriever(), call={"fetch_k": 9}) == 9
    assert candidates(base_retriever=store().as_retriever(search_type="mmr"), call={"fetch_k": 9}) == 9


def test_the_first_fetch_k_of_any_other_retriever_are_reranked() -> None:
    """Where the number cannot be asked for, the rest is left unread."""
    many = [Document(f"text {n}") for n in range(70)]
    assert candidates(base_retriever=Fixed(held=many)) == 50
    assert candidates(base_retriever=RunnableLambda(lambda _: many), fetch_k=5) == 5


def test_other_keywords_go_to_the_base_retriever() -> None:
    """A filter of one request reaches the store, sync and async."""
    retriever = RerankRetriever(base_retriever=store().as_retriever(), reranker=ByLength(), top_n=None)

    def short(document: Document) -> bool:
        return len(document.page_content) <= 3

    found = retriever.invoke(QUERY, filter=short)
    assert [document.page_content for document in found] == ["xxx", "xx", "x"]
    assert asyncio.run(retriever.ainvoke(QUERY, filter=short)) == found


def test_top_n_is_the_compressors_unless_it_is_given() -> None:
    """A compressor brings its own top_n; the retriever's own goes before it."""
    compressor = RerankCompressor(reranker=ByLength(), top_n=2)
    base = Fixed(held=documents())
    retriever = RerankRetriever(base_retriever=base, compressor=compressor)
    assert len(retriever.invoke(QUERY)) == 2
    assert len(RerankRetriever(base_retriever=base, compressor=compressor, top_n=1).invoke(QUERY)) == 1
    assert RerankRetriever(base_retriever=base, reranker=ByLength()).top_n == 5
    compressor.top_n = 3
    assert len(retriever.invoke(QUERY)) == 3
    retriever.compressor = RerankCompressor(reranker=ByLength(), top_n=1)
    assert len(retriever.invoke(QUERY)) == 1


def test_a_compressor_can_be_configured_for_one_request() -> None:
    """LangChain builds the retriever anew for it, and the new compressor's top_n counts."""
    retriever = RerankRetriever(base_retriever=store().as_retriever(), compressor=RerankCompressor(reranker=ByLength()))
    configurable = retriever.configurable_fields(compressor=ConfigurableField(id="compressor"))
    other = RerankCompressor(reranker=ByLength(), top_n=7)
    assert len(configurable.invoke(QUERY)) == 3
    assert len(configurable.invoke(QUERY, {"configurable": {"compressor": other}})) == 7


def test_a_wrapped_vector_store_is_asked_too() -> None:
    """Tags, retries and configurable fields around it do not bring back its default of 4."""
    plain = store().as_retriever()
    field = ConfigurableField(id="search")
    for wrapped in (plain.with_config(tags=["a"]), plain.with_retry(), plain.configurable_fields(search_kwargs=field)):
        assert candidates(base_retriever=wrapped) == 50


@pytest.mark.parametrize("own", [None, 0, "4"])
def test_a_store_with_a_k_that_is_none_is_asked_for_50(own: object) -> None:
    """search_kwargs with a k of None, 0 or text counts as without one."""
    assert candidates(base_retriever=store().as_retriever(search_kwargs={"k": own})) == 50


@pytest.mark.parametrize("wrong", ["k", "score_threshold", "model"])
def test_settings_of_its_own_are_refused_in_a_call(wrong: str) -> None:
    """A field given to invoke would go to the base retriever unseen, and k is called fetch_k."""
    retriever = RerankRetriever(base_retriever=store().as_retriever(), reranker=ByLength())
    with pytest.raises(InvalidInputError, match=f"Got {wrong}; a call takes top_n and fetch_k"):
        retriever.invoke(QUERY, **{wrong: 10})


@pytest.mark.parametrize(("found", "kind"), [(None, "NoneType"), (7, "int")])
def test_a_base_that_gives_no_documents_is_named(found: Any, kind: str) -> None:
    """What is no list is an error that says what was got; a generator is read."""
    with pytest.raises(InvalidInputError, match=f"base_retriever gave {kind}, expected a list"):
        RerankRetriever(base_retriever=RunnableLambda(lambda _: found), reranker=ByLength()).invoke(QUERY)


def test_copies_and_pickles_keep_what_was_given() -> None:
    """A deepcopy and a pickle rank the same and still know which numbers were given."""
    retriever = RerankRetriever(base_retriever=Fixed(held=documents()), model="rerank-mini-en")
    for twin in (copy.deepcopy(retriever), pickle.loads(pickle.dumps(retriever))):  # noqa: S301 - our own
        assert twin.invoke(QUERY) == retriever.invoke(QUERY)
        twin.base_retriever = store().as_retriever(search_kwargs={"k": 9})
        assert len(twin.invoke(QUERY, top_n=None)) == 9


def test_top_n_is_configurable() -> None:
    """configurable_fields sets it for one request."""
    retriever = RerankRetriever(base_retriever=store().as_retriever(), reranker=ByLength())
    configurable = retriever.configurable_fields(top_n=ConfigurableField(id="keep"))
    assert len(configurable.invoke(QUERY)) == 5
    assert len(configurable.invoke(QUERY, {"configurable": {"keep": 9}})) == 9


def test_it_takes_the_compressors_fields() -> None:
    """Threshold, key and text fields may be given to the retriever itself."""
    scorer = Remembers()
    base = Fixed(held=[Document("a", metadata={"title": "T"}), Document("", metadata={})])
    retriever = RerankRetriever(
        base_retriever=base, reranker=scorer, rank_fields=("title",), score_key="s", score_threshold=0.5
    )
    (best,) = retriever.invoke(QUERY)
    assert (scorer.passages, best.metadata.keys()) == (["T\na"], {"title", "s"})


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"compressor": RerankCompressor(), "model": "x"}, "got compressor and, beside it, model"),
        ({"compressor": RerankCompressor(), "score_threshold": 0.5}, "beside it, score_threshold"),
        ({"fetch_k": 0}, "fetch_k must be a whole number of at least 1, got 0"),
        ({"top_n": -1}, "top_n must be 0 or more"),
        ({"top_k": 5}, "It is called top_n"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    """The error names the field, or the one that was meant."""
    with pytest.raises(ValidationError, match=message):
        RerankRetriever(base_retriever=Fixed(held=[]), **wrong)


def test_a_wrong_top_n_of_a_call_is_refused_before_the_search() -> None:
    """The base retriever is not asked in vain."""

    def never(_: str) -> list[Document]:
        raise AssertionError

    retriever = RerankRetriever(base_retriever=RunnableLambda(never), reranker=ByLength())
    with pytest.raises(ValueError, match="top_n must be 0 or more"):
        retriever.invoke(QUERY, top_n=-1)


@pytest.mark.parametrize("how", ["sync", "async"])
def test_its_trace_has_one_run_a_stage(how: str) -> None:
    """Under its own run stand the base retriever's and the compressor's, in this order."""
    collector = RunCollectorCallbackHandler()
    retriever = RerankRetriever(base_retriever=Fixed(held=documents()), reranker=ByLength())
    config: Any = {"callbacks": [collector]}
    if how == "async":
        asyncio.run(retriever.ainvoke(QUERY, config))
    else:
        retriever.invoke(QUERY, config)
    (run,) = collector.traced_runs
    assert (run.name, [child.name for child in run.child_runs]) == ("RerankRetriever", ["Fixed", "RerankCompressor"])


def test_nothing_found_loads_nothing() -> None:
    """No candidates, no results, and no model is looked for."""
    assert RerankRetriever(base_retriever=Fixed(held=[]), model="no/such-model").invoke(QUERY) == []
