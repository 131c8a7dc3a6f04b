"""Cohere."""

from __future__ import annotations

from typing import Any

from rerank_plugins.scorers.remote.dialect import Billed, Dialect, as_count


class Cohere(Dialect):
    """``POST /v2/rerank``. Bills search units: one for a query with up to 100 documents, more for long ones."""

    name = "cohere"
    path = "/v2/rerank"
    service = "https://api.cohere.com"
    key_variables = ("COHERE_API_KEY", "CO_API_KEY")
    needs_model = True
    max_documents = 1000

    def billed(self, answer: Any) -> Billed:
        """``meta.billed_units.search_units``."""
        meta = answer.get("meta")
        units = meta.get("billed_units") if isinstance(meta, dict) else None
        return Billed(units=as_count(units.get("search_units"))) if isinstance(units, dict) else Billed()
