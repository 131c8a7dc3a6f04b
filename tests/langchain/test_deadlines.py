from __future__ import annotations

import warnings
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.load import dumpd, load

from rerank_plugins import DeadlineExceededError
from rerank_plugins.langchain import RerankCompressor
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker

DOCUMENTS = [Document(text, id=text, metadata={"relevance_score": 9}) for text in ("apple", "plums", "grape")]


class Ends(BaseCallbackHandler):
    """Remembers the metadata of the runs."""

    def __init__(self) -> None:
        self.metadata: list[dict[str, Any]] = []

    def on_chain_start(self, *_: Any, metadata: dict[str, Any] | None = None, **__: Any) -> None:
        """Hold what is completed later."""
        self.metadata.append(metadata or {})


def test_a_deadline_gives_the_documents_without_scores() -> None:
    """What has no score comes in its order with relevance_score None, and the trace counts it."""
    seen = Ends()
    compressor = RerankCompressor(reranker=toy_reranker(SlowEngine(seconds=0.3)), top_n=2, deadline=0.01)
    found = compressor.compress_documents(DOCUMENTS, "q", [seen])
    assert [(document.id, document.metadata["relevance_score"]) for document in found] == [
        ("apple", None),
        ("plums", None),
    ]
    assert (seen.metadata[0]["unscored"], seen.metadata[0]["scores"]) == (3, [None, None])
    assert [document.metadata["relevance_score"] for document in DOCUMENTS] == [9, 9, 9]


async def test_an_error_can_keep_the_order() -> None:
    """on_error='keep_order' answers unranked, sync and async; on_deadline='raise' raises."""
    compressor = RerankCompressor(reranker=toy_reranker(FailingEngine(at=1)), on_error="keep_order")
    found = await compressor.acompress_documents(DOCUMENTS, "q")
    assert [document.id for document in found] == ["apple", "plums", "grape"]
    late = RerankCompressor(reranker=toy_reranker(SlowEngine(seconds=0.3)), deadline=0.01, on_deadline="raise")
    with pytest.raises(DeadlineExceededError):
        await late.acompress_documents(DOCUMENTS, "q")


def test_the_settings_are_fields() -> None:
    """They are checked when they are set, written down, and configurable."""
    compressor = RerankCompressor(model="rerank-mini-en", deadline=2, on_deadline="raise", on_error="keep_order")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls its own function beta
        again = load(dumpd(compressor), valid_namespaces=["rerank_plugins"], allowed_objects=[RerankCompressor])
    assert (again.deadline, again.on_deadline, again.on_error) == (2.0, "raise", "keep_order")
    for wrong in ({"deadline": 0}, {"on_deadline": "later"}, {"on_error": "ignore"}, {"score_cache": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            RerankCompressor(**wrong)  # type: ignore[arg-type]
