"""`RerankCompressor`: documents in, the most relevant of them out."""

from __future__ import annotations

import asyncio
import copy
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_classic.retrievers import ContextualCompressionRetriever
from langchain_classic.retrievers.document_compressors import DocumentCompressorPipeline
from langchain_core.documents import Document
from langchain_text_splitters import CharacterTextSplitter

from langchain_stand_ins import QUERY, TEXTS, ByLength, CutsLong, Fixed, Gives, Remembers, documents
from rerank_plugins import InvalidInputError, Reranker, ScoringError
from rerank_plugins.langchain import RerankCompressor


class Titled(Document):
    """A subclass of Document, as stores have them."""

    title: str = ""


def by_length(**fields: object) -> RerankCompressor:
    return RerankCompressor(reranker=ByLength(), **fields)  # type: ignore[arg-type]


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


def test_works_inside_a_document_compressor_pipeline(compressor: RerankCompressor) -> None:
    """After a splitter it ranks the pieces, sync and async."""
    splitter = CharacterTextSplitter(separator=" | ", chunk_size=50, chunk_overlap=0)
    pipeline = DocumentCompressorPipeline(transformers=[splitter, compressor])
    pieces = pipeline.compress_documents([Document(" | ".join(TEXTS))], QUERY)
    assert (len(pieces), pieces[0].page_content) == (2, TEXTS[1])
    assert asyncio.run(pipeline.acompress_documents([Document(" | ".join(TEXTS))], QUERY)) == pieces


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
    (result,) = by_length().compress_documents(stale, QUERY)
    assert result.metadata["relevance_score"] > 0.5


def test_the_score_key_can_be_chosen() -> None:
    """With score_key the score stands there, and relevance_score is left as it was."""
    given = [Document("a passage", metadata={"relevance_score": 0.123})]
    (result,) = by_length(score_key="rerank").compress_documents(given, QUERY)
    assert result.metadata["relevance_score"] == 0.123
    assert result.metadata["rerank"] > 0.5


def test_duplicates_are_kept() -> None:
    """Two equal documents come out twice."""
    given = [Document("same text"), Document("same text"), Document("x")]
    best = by_length(top_n=None).compress_documents(given, QUERY)
    assert [document.page_content for document in best] == ["same text", "same text", "x"]


def test_ties_keep_their_order() -> None:
    """Documents of the same score come out in the order they came in."""
    given = [Document("aaaa", id=str(n)) for n in range(20)]
    assert [document.id for document in by_length(top_n=None).compress_documents(given, QUERY)] == [
        document.id for document in given
    ]


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 0), (1, 1), (3, 3), (99, 3)])
def test_top_n(top_n: int | None, kept: int) -> None:
    """None keeps all, 0 none, more than there are all: as a field, for one call, and for one async call."""
    assert len(by_length(top_n=top_n).compress_documents(documents(), QUERY)) == kept
    assert len(by_length().compress_documents(documents(), QUERY, top_n=top_n)) == kept
    assert len(asyncio.run(by_length().acompress_documents(documents(), QUERY, top_n=top_n))) == kept


def test_top_n_of_a_call_is_for_that_call_only() -> None:
    """The next call is back at the field's."""
    compressor = by_length(top_n=2)
    assert len(compressor.compress_documents(documents(), QUERY, top_n=1)) == 1
    assert len(compressor.compress_documents(documents(), QUERY)) == 2


@pytest.mark.parametrize("wrong", [-1, 1.5, "3", True])
def test_a_wrong_top_n_of_a_call_is_refused(wrong: object) -> None:
    """What no top_n can be is an error that names it, with or without documents."""
    for held in (documents(), []):
        with pytest.raises(InvalidInputError, match="top_n"):
            by_length().compress_documents(held, QUERY, top_n=wrong)  # type: ignore[arg-type]


def test_the_threshold_is_inclusive_and_applied_before_top_n() -> None:
    """A document exactly at score_threshold stays; top_n cuts what the threshold left."""
    compressor = by_length(top_n=None)
    given = [Document("aa"), Document("a"), Document("aaa")]
    scores = [document.metadata["relevance_score"] for document in compressor.compress_documents(given, QUERY)]
    compressor.score_threshold = scores[1]
    assert [d.page_content for d in compressor.compress_documents(given, QUERY)] == ["aaa", "aa"]
    assert [d.page_content for d in compressor.compress_documents(given, QUERY, top_n=1)] == ["aaa"]


@pytest.mark.parametrize("empty", [[], (), iter(())])
def test_no_documents_load_no_model(empty: list[Document]) -> None:
    """Nothing in, nothing out, and a model that does not exist is never looked for."""
    compressor = RerankCompressor(model="no/such-model")
    assert compressor.compress_documents(empty, QUERY) == []
    assert asyncio.run(compressor.acompress_documents(empty, QUERY)) == []
    assert compressor.compress_documents(documents(), QUERY, top_n=0) == []


def test_blank_documents_come_last_without_the_model() -> None:
    """An empty document gets 0.0 and is not scored."""
    scorer = Remembers()
    given = [Document("", id="empty"), Document("text", id="text"), Document(" \n", id="blank")]
    best = RerankCompressor(reranker=scorer, top_n=None).compress_documents(given, QUERY)
    assert [document.id for document in best] == ["text", "empty", "blank"]
    assert [document.metadata["relevance_score"] for document in best][1:] == [0.0, 0.0]
    assert scorer.passages == ["text"]


def test_any_iterable_of_documents_is_read() -> None:
    """A generator and a tuple give what a list gives."""
    expected = by_length().compress_documents(documents(), QUERY)
    assert by_length().compress_documents((document for document in documents()), QUERY) == expected
    assert by_length().compress_documents(tuple(documents()), QUERY) == expected


@pytest.mark.parametrize("scores", [(1.0, 2.0), (1.0, math.nan, 2.0), (1.0, 2.0, 3.0, 4.0)])
def test_wrong_scores_raise_instead_of_dropping_documents(scores: tuple[float, ...]) -> None:
    """Too few scores, too many, and NaN are errors, sync and async."""
    compressor = RerankCompressor(reranker=Gives(*scores))
    with pytest.raises(ScoringError, match=r"scores for 3 pairs|NaN"):
        compressor.compress_documents(documents(), QUERY)
    with pytest.raises(ScoringError, match=r"scores for 3 pairs|NaN"):
        asyncio.run(compressor.acompress_documents(documents(), QUERY))


def test_a_blank_query_says_so(compressor: RerankCompressor) -> None:
    """A blank query of one's own is an error that names it; so is one that is no string, whoever asks."""
    with pytest.raises(InvalidInputError, match="query is blank"):
        compressor.invoke({"documents": documents(), "query": "  "})
    with pytest.raises(InvalidInputError, match="query must be a string, got NoneType"):
        compressor.compress_documents(documents(), None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["text"], "got str at position 0"),
        ([Document("a"), None], r"got NoneType at position 1 \(counted from 0\), 1 of 2"),
        ("text", "must be a list of Documents, got str"),
        (Document("a"), "must be a list of Documents, got Document"),
        (7, "must be a list of Documents, got int"),
    ],
)
def test_what_is_no_document_is_named(wrong: object, message: str) -> None:
    """The error says what was got, where, and what to do."""
    with pytest.raises(InvalidInputError, match=message):
        by_length().compress_documents(wrong, QUERY)  # type: ignore[arg-type]


def test_rank_fields_are_read_before_the_text() -> None:
    """Metadata fields stand before the text, one a line; missing ones are passed over; the document is unchanged."""
    scorer = Remembers()
    given = [
        Document("A text.", metadata={"title": "A title", "year": 2024, "secret": "x"}),
        Document("Another.", metadata={"title": None}),
    ]
    best = RerankCompressor(reranker=scorer, rank_fields=("title", "year")).compress_documents(given, QUERY)
    assert scorer.passages == ["A title\n2024\nA text.", "Another."]
    assert {document.page_content for document in best} == {"A text.", "Another."}


def test_document_text_says_what_is_read() -> None:
    """A callable makes the text that is scored; the document keeps its own."""
    scorer = Remembers()
    compressor = RerankCompressor(reranker=scorer, document_text=lambda d: f"{d.id}: {d.page_content[:5]}", top_n=1)
    (best,) = compressor.compress_documents(documents(), QUERY)
    assert scorer.passages == ["d0: Apple", "d1: The i", "d2: A fra"]
    assert best.page_content in TEXTS


def test_document_text_must_give_a_string() -> None:
    """Where the callable gives something else, the error says at which document."""
    compressor = by_length(document_text=lambda d: None if d.id == "d1" else d.page_content)
    with pytest.raises(InvalidInputError, match="got NoneType at position 1"):
        compressor.compress_documents(documents(), QUERY)


def test_what_was_truncated_can_be_marked_on_the_document() -> None:
    """mark_truncated writes a boolean on each document, and nothing is written without it."""
    given = [Document("short", id="s"), Document("long " * 20, id="l")]
    marked = RerankCompressor(reranker=CutsLong(), mark_truncated=True).compress_documents(given, QUERY)
    assert {document.id: document.metadata["truncated"] for document in marked} == {"s": False, "l": True}
    plain = RerankCompressor(reranker=CutsLong()).compress_documents(given, QUERY)
    assert all("truncated" not in document.metadata for document in plain)


def test_a_real_model_says_what_it_truncated(box: Reranker) -> None:
    """With the model in the box a passage of 3000 words is marked, a short one is not."""
    given = [Document("titanium " * 3000, id="long"), Document(TEXTS[1], id="short")]
    best = RerankCompressor(reranker=box, mark_truncated=True).compress_documents(given, QUERY)
    assert {document.id: document.metadata["truncated"] for document in best} == {"long": True, "short": False}


@given(st.lists(st.text(max_size=30), max_size=8), st.one_of(st.none(), st.integers(0, 9)))
def test_any_texts_come_back_scored_and_sorted(texts: list[str], top_n: int | None) -> None:
    """Whatever the texts are, as many as top_n come back, each with its own id, by falling score."""
    given = [Document(text, id=str(n)) for n, text in enumerate(texts)]
    best = by_length(top_n=top_n).compress_documents(given, QUERY)
    assert len(best) == (len(texts) if top_n is None else min(top_n, len(texts)))
    assert all(document.page_content == texts[int(document.id or "")] for document in best)
    scores = [document.metadata["relevance_score"] for document in best]
    assert scores == sorted(scores, reverse=True)


class Logged(Reranker):
    """A reranker with a way of its own."""

    def rerank(self, query: str, documents: Any, **options: Any) -> Any:
        """As the base class, and noted."""
        self.options = options
        return super().rerank(query, documents, **options)


def test_a_subclass_with_its_own_rerank_is_asked() -> None:
    """What it gives is what comes out."""
    reranker = Logged(ByLength())
    compressor = RerankCompressor(reranker=reranker, top_n=1)
    assert len(compressor.compress_documents(documents(), QUERY)) == 1
    assert (reranker.options["top_n"], reranker.options["on_error"]) == (1, "raise")


async def test_highlights_beside_a_rerank_of_ones_own_are_of_the_documents_text() -> None:
    """Offsets count in page_content, whatever fields were ranked before it; sync and async."""
    compressor = RerankCompressor(reranker=Logged(ByLength()), rank_fields=("title",), highlight=True, top_n=None)
    given = [Document("Red is a colour. Apples are a fruit.", metadata={"title": "A title that is ranked too"})]
    for found in (compressor.compress_documents(given, QUERY), await compressor.acompress_documents(given, QUERY)):
        mark = found[0].metadata["highlight"]
        assert given[0].page_content[mark["start"] : mark["end"]] == mark["text"]


def test_a_document_whose_text_is_none_is_named() -> None:
    """LangChain does not check what is assigned; the error says what was got and where."""
    given = documents()
    given[1].page_content = None  # type: ignore[assignment]
    with pytest.raises(InvalidInputError, match="got NoneType at position 1"):
        RerankCompressor(reranker=ByLength()).compress_documents(given, QUERY)
