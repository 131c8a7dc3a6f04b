"""`RerankCompressor` with the real framework and the model in the box."""

from __future__ import annotations

import asyncio
import copy
import itertools
import time
from collections.abc import Iterator

import pytest
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from pydantic import ValidationError

from rerank_plugins import InvalidInputError, Pair, Reranker, ScoringError, load_reranker
from rerank_plugins.langchain import RerankCompressor

QUERY = "What is the frame of the phone made of?"
TEXTS = [
    "Apples are a healthy fruit, rich in fibre.",
    "The iPhone 15 Pro has a frame of titanium.",
    "A frame of oak holds the picture in the hall.",
]


class ByLength:
    """The longer the passage, the higher its score."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        return [float(len(passage)) for _, passage in pairs]


class Slow(ByLength):
    """As `ByLength`, after 300 ms."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, late."""
        time.sleep(0.3)
        return super().score(pairs)


class Titled(Document):
    """A subclass of Document, as stores have them."""

    title: str = ""


class Fixed(BaseRetriever):
    """Returns the very objects it holds, as a FAISS store does."""

    held: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        return self.held


def documents() -> list[Document]:
    return [Document(text, id=f"d{n}", metadata={"source": {"page": n}}) for n, text in enumerate(TEXTS)]


@pytest.fixture(scope="module")
def compressor() -> RerankCompressor:
    return RerankCompressor(reranker=load_reranker("rerank-mini-en"), top_n=2)


def test_puts_the_passage_that_answers_first(compressor: RerankCompressor) -> None:
    """The best document comes first, with a built-in float under relevance_score."""
    best = compressor.compress_documents(documents(), QUERY)
    assert [len(best), best[0].page_content] == [2, TEXTS[1]]
    scores = [document.metadata["relevance_score"] for document in best]
    assert all(type(score) is float and 0.0 <= score <= 1.0 for score in scores)
    assert scores == sorted(scores, reverse=True)


def test_works_inside_a_contextual_compression_retriever(compressor: RerankCompressor) -> None:
    """It is a drop-in base_compressor, sync and async, with the same result."""
    retriever = ContextualCompressionRetriever(base_compressor=compressor, base_retriever=Fixed(held=documents()))
    found = retriever.invoke(QUERY)
    assert found[0].id == "d1"
    assert asyncio.run(retriever.ainvoke(QUERY)) == found


def test_leaves_what_came_in_untouched(compressor: RerankCompressor) -> None:
    """Documents in a store are the same before and after, and the results are other objects."""
    given = documents()
    before = copy.deepcopy(given)
    best = compressor.compress_documents(given, QUERY)
    assert given == before
    assert not any(result is document for result in best for document in given)


def test_keeps_ids_metadata_and_class(compressor: RerankCompressor) -> None:
    """A result is its document with one metadata key more."""
    given = [Titled(TEXTS[1], id="t1", title="A title", metadata={"page": 3})]
    (result,) = compressor.compress_documents(given, QUERY)
    assert isinstance(result, Titled)
    assert (result.id, result.title, result.page_content) == ("t1", "A title", TEXTS[1])
    assert {**given[0].metadata, "relevance_score": result.metadata["relevance_score"]} == result.metadata


def test_a_stale_score_is_overwritten() -> None:
    """A relevance_score from an earlier stage does not survive."""
    stale = [Document("a passage", metadata={"relevance_score": 0.123})]
    (result,) = RerankCompressor(reranker=Reranker(ByLength())).compress_documents(stale, QUERY)
    assert result.metadata["relevance_score"] > 0.9


def test_duplicates_are_kept() -> None:
    """Two equal documents come out twice."""
    given = [Document("same text"), Document("same text"), Document("x")]
    best = RerankCompressor(reranker=Reranker(ByLength()), top_n=None).compress_documents(given, QUERY)
    assert [document.page_content for document in best] == ["same text", "same text", "x"]


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 0), (1, 1), (3, 3), (99, 3)])
def test_top_n(top_n: int | None, kept: int) -> None:
    """None keeps all, 0 none, more than there are all."""
    compressor = RerankCompressor(reranker=Reranker(ByLength()), top_n=top_n)
    assert len(compressor.compress_documents(documents(), QUERY)) == kept


def test_the_threshold_is_inclusive_and_applied_before_top_n() -> None:
    """A document exactly at score_threshold stays."""
    compressor = RerankCompressor(reranker=Reranker(ByLength()), top_n=None)
    given = [Document("aa"), Document("a"), Document("aaa")]
    scores = [document.metadata["relevance_score"] for document in compressor.compress_documents(given, QUERY)]
    compressor.score_threshold = scores[1]
    assert [d.page_content for d in compressor.compress_documents(given, QUERY)] == ["aaa", "aa"]


@pytest.mark.parametrize("wrong", [{"top_n": -1}, {"score_threshold": 1.5}, {"topn": 3}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    """A negative top_n, a threshold above 1 and a misspelt field raise when the object is made."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RerankCompressor(**wrong)  # type: ignore[arg-type]


def test_assignment_is_validated() -> None:
    """top_n = -1 raises after construction too."""
    compressor = RerankCompressor(reranker=Reranker(ByLength()))
    with pytest.raises(ValidationError, match="top_n"):
        compressor.top_n = -1


@pytest.mark.parametrize("empty", [[], ()])
def test_an_empty_list_loads_no_model(empty: list[Document]) -> None:
    """Nothing in, nothing out, and a model that does not exist is never looked for."""
    compressor = RerankCompressor(model="no/such-model")
    assert compressor.compress_documents(empty, QUERY) == []
    assert asyncio.run(compressor.acompress_documents(empty, QUERY)) == []


def test_async_leaves_the_event_loop_free() -> None:
    """While a slow scorer works, a heartbeat of 10 ms goes on."""
    compressor = RerankCompressor(reranker=Reranker(Slow()))

    async def main() -> list[float]:
        beats = [time.perf_counter()]
        task = asyncio.create_task(compressor.acompress_documents(documents(), QUERY))
        while not task.done():
            await asyncio.sleep(0.01)
            beats.append(time.perf_counter())
        await task
        return [later - sooner for sooner, later in itertools.pairwise(beats)]

    gaps = asyncio.run(main())
    assert len(gaps) >= 5
    assert max(gaps) < 0.2


def test_errors_of_the_scorer_reach_the_caller() -> None:
    """A scorer that gives too few scores raises instead of dropping documents."""

    class Short(ByLength):
        def score(self, pairs: list[Pair], /) -> list[float]:
            return super().score(pairs)[1:]

    with pytest.raises(ScoringError, match="2 scores for 3 pairs"):
        RerankCompressor(reranker=Reranker(Short())).compress_documents(documents(), QUERY)


def test_a_blank_query_says_so(compressor: RerankCompressor) -> None:
    """A blank query is an error that names it."""
    with pytest.raises(InvalidInputError, match="query is blank"):
        compressor.compress_documents(documents(), "  ")


def test_one_model_serves_all_compressors_of_a_process() -> None:
    """Two compressors with the same model share the loaded reranker."""

    def loaded() -> Iterator[object]:
        for _ in range(2):
            compressor = RerankCompressor(model="rerank-mini-en", top_n=1)
            compressor.compress_documents(documents(), QUERY)
            yield compressor._reranker()

    first, second = loaded()
    assert first is second
