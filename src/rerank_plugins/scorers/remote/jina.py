"""Jina AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.remote.dialect import Dialect


class Jina(Dialect):
    """``POST /v1/rerank``. Its third generation reads the documents of a request together, and gives cosines."""

    name = "jina"
    service = "https://api.jina.ai"
    key_variables = ("JINA_API_KEY",)
    needs_model = True
    max_documents = 2048

    def __init__(self, model: str | None = None, instruction: str | None = None) -> None:
        super().__init__(model, instruction)
        # A server of one's own may have it by its name on the hub, jinaai/jina-reranker-v3.
        if model is not None and model.rpartition("/")[2].startswith("jina-reranker-v3"):
            self.listwise = True
            self.scale = "logit"  # they may be negative

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Without the documents in the answer."""
        return {**super().request(query, documents), "return_documents": False}
