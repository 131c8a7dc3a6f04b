"""Documents and a retriever that the tests of the LangChain adapter share."""

from __future__ import annotations

from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from scorers import QUERY, TEXTS, ByLength, CutsLong, Gives, Remembers, Slow

__all__ = ["QUERY", "TEXTS", "ByLength", "CutsLong", "Fixed", "Gives", "Remembers", "Slow", "documents"]


class Fixed(BaseRetriever):
    """Returns the very objects it holds, as a FAISS store does."""

    held: list[Document]

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:  # noqa: ARG002
        return self.held


def documents() -> list[Document]:
    """Three documents with ids and nested metadata, new objects at every call."""
    return [Document(text, id=f"d{n}", metadata={"source": {"page": n}}) for n, text in enumerate(TEXTS)]
