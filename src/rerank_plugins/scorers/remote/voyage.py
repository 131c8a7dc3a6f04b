"""Voyage AI."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.remote.dialect import Dialect, Entry


class Voyage(Dialect):
    """``POST /v1/rerank`` gives ``{data: [{index, relevance_score}]}``."""

    name = "voyage"
    service = "https://api.voyageai.com"
    key_variables = ("VOYAGE_API_KEY",)
    needs_model = True
    max_documents = 1000

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Long texts are cut by the server."""
        return {**super().request(query, documents), "truncation": True}

    def entries(self, answer: Any) -> list[Entry]:
        """As others, under ``data``."""
        return [Entry(one["index"], one["relevance_score"]) for one in answer["data"]]
