"""The best sentence of a document, in its metadata."""

from __future__ import annotations

import json
import warnings
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, load
from langchain_core.runnables import RunnableLambda
from pydantic import ValidationError

from rerank_plugins import Reranker
from rerank_plugins.langchain import RerankCompressor, RerankRetriever
from rerank_plugins.testing import WordOverlap

QUERY = "titanium."
PHONE = "The phone was shown in September. Its frame is made of titanium. It costs 999 dollars."
FOUND = {"start": 34, "end": 64, "text": "Its frame is made of titanium."}


def documents() -> list[Document]:
    return [
        Document("Apples are a healthy fruit. Eat one a day.", id="fruit", metadata={"title": "Fruit"}),
        Document(PHONE, id="phone", metadata={"title": "About titanium.", "highlight": "mine"}),
        Document(" ", id="blank", metadata={"title": "Nothing about titanium."}),
    ]


def compressor(**fields: Any) -> RerankCompressor:
    return RerankCompressor(**{"reranker": WordOverlap(), "top_n": 1, "highlight": True, **fields})


async def test_the_best_sentence_is_in_the_metadata() -> None:
    """Sync and async: offsets into page_content and the text, as JSON; what came in is untouched."""
    given = documents()
    (best,) = compressor().compress_documents(given, QUERY)
    assert best.metadata["highlight"] == FOUND
    assert best.page_content[FOUND["start"] : FOUND["end"]] == FOUND["text"]  # type: ignore[misc]
    assert json.loads(json.dumps(best.metadata))["highlight"] == FOUND
    assert list(await compressor().acompress_documents(given, QUERY)) == [best]
    assert given == documents()


def test_only_what_is_kept_is_split() -> None:
    """All documents are scored, and the sentences of the one that is kept."""
    reranker = Reranker(WordOverlap())
    compressor(reranker=reranker).compress_documents(documents(), QUERY)
    assert reranker.stats().pairs == 2 + 3


@pytest.mark.parametrize(
    "reads", [{"rank_fields": ("title",)}, {"document_text": lambda document: f"Read this titanium. {document.id}"}]
)
def test_offsets_are_into_page_content_whatever_was_read(reads: dict[str, Any]) -> None:
    """Titles and texts of one's own are read for the ranking; sentences are those of page_content."""
    best = compressor(**reads, top_n=None).compress_documents(documents(), QUERY)
    marked = {document.id: document.metadata["highlight"] for document in best}
    assert marked["phone"] == FOUND
    assert marked["blank"] is None


def test_without_it_nothing_is_written() -> None:
    """By default there is no such key, and one that was there stays."""
    best = compressor(highlight=False, top_n=None).compress_documents(documents(), QUERY)
    assert [document.metadata.get("highlight") for document in best if document.id != "phone"] == [None, None]
    assert [document.metadata["highlight"] for document in best if document.id == "phone"] == ["mine"]


def test_the_retriever_has_the_field() -> None:
    """RerankRetriever writes it too."""
    base: Any = RunnableLambda(lambda _: documents())
    retriever = RerankRetriever(base_retriever=base, reranker=WordOverlap(), top_n=1, highlight=True)
    assert retriever.invoke(QUERY)[0].metadata["highlight"] == FOUND


def test_it_is_a_setting() -> None:
    """It is checked, written down and read again, and does not share its key with the score."""
    with pytest.raises(ValidationError, match="valid boolean"):
        RerankCompressor(highlight="yes")  # type: ignore[arg-type]
    with pytest.raises(ValidationError, match="score_key='highlight'"):
        RerankCompressor(highlight=True, score_key="highlight")
    written = dumpd(RerankCompressor(model="a/b", highlight=True))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls its own function beta
        again = load(written, valid_namespaces=["rerank_plugins"], allowed_objects=[RerankCompressor])
    assert again.highlight is True
