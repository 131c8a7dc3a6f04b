"""LangChain: `RerankCompressor`, a document compressor for `ContextualCompressionRetriever`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.reranker import DEFAULT_MODEL, Reranker, shared_reranker

try:
    from langchain_core.callbacks import Callbacks
    from langchain_core.documents import BaseDocumentCompressor, Document
    from pydantic import ConfigDict, Field
except ImportError as exc:
    raise MissingExtraError("langchain", "rerank_plugins.langchain", str(exc.name)) from exc

from rerank_plugins.ranking import RankedResult

SCORE_KEY = "relevance_score"
"""Metadata key of the score, the one LangChain's own rerankers use."""


class RerankCompressor(BaseDocumentCompressor):
    """Keeps the documents most relevant to the query, best first.

    The documents that come out are copies: same id, class and metadata, with the score, a built-in
    float in [0, 1], under ``metadata["relevance_score"]``. What came in is untouched.

    Raises:
        InvalidInputError: A blank query.
        ModelNotFoundError, ModelLoadError: At the first use; the model is loaded then, once a process.
    """

    model: str = DEFAULT_MODEL
    """A folder, ``"rerank-mini-en"``, or a name on the Hugging Face hub. Not used if ``reranker`` is given."""
    reranker: Reranker | None = Field(default=None, exclude=True)
    """A reranker to use instead of loading ``model``."""
    top_n: int | None = Field(default=3, ge=0)
    """How many documents to keep; None keeps all."""
    score_threshold: float | None = Field(default=None, ge=0.0, le=1.0)
    """Keep only scores at or above this, before ``top_n`` cuts."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

    def compress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 - part of LangChain's signature
    ) -> Sequence[Document]:
        """Rerank ``documents``; an empty list gives an empty list and loads nothing."""
        given = list(documents)
        if not given:
            return []
        results = self._reranker().rerank(query, _texts(given), **self._cut())
        return _copies(given, results)

    async def acompress_documents(
        self,
        documents: Sequence[Document],
        query: str,
        callbacks: Callbacks | None = None,  # noqa: ARG002 - part of LangChain's signature
    ) -> Sequence[Document]:
        """`compress_documents` without blocking the event loop."""
        given = list(documents)
        if not given:
            return []
        reranker = await asyncio.to_thread(self._reranker)
        return _copies(given, await reranker.arerank(query, _texts(given), **self._cut()))

    def _reranker(self) -> Reranker:
        return self.reranker or shared_reranker(self.model)

    def _cut(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "score_threshold": self.score_threshold}


def _texts(documents: list[Document]) -> list[str]:
    return [document.page_content for document in documents]


def _copies(documents: list[Document], results: list[RankedResult]) -> list[Document]:
    # Only the top level of the metadata is written to, so a shallow copy of it is enough.
    return [
        documents[result.index].model_copy(
            update={"metadata": {**documents[result.index].metadata, SCORE_KEY: result.score}}
        )
        for result in results
    ]
