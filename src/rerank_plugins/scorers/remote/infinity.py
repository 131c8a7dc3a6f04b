"""Infinity."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.base import Scale
from rerank_plugins.scorers.remote.dialect import Dialect


class Infinity(Dialect):
    """``POST /rerank``. Logits are asked for: probabilities round to 1.0."""

    name = "infinity"
    path = "/rerank"
    key_variables = ("INFINITY_API_KEY",)
    scale: Scale = "logit"
    max_documents = 2048
    max_characters = 122_880  # a longer text is refused, and no model of Infinity's reads so far

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Without the documents in the answer."""
        return {**super().request(query, documents), "raw_scores": True, "return_documents": False}
