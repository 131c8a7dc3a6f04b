"""NVIDIA NIM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.base import Scale
from rerank_plugins.scorers.remote.dialect import Dialect, Entry


class Nim(Dialect):
    """``POST /v1/ranking {model, query: {text}, passages: [{text}]}`` gives ``{rankings: [{index, logit}]}``."""

    name = "nim"
    path = "/v1/ranking"
    key_variables = ("NVIDIA_API_KEY",)
    scale: Scale = "logit"
    needs_model = True
    max_documents = 512

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Long texts are cut at their end by the server."""
        passages = [{"text": text} for text in documents]
        return {"model": self.model, "query": {"text": query}, "passages": passages, "truncate": "END"}

    def entries(self, answer: Any) -> list[Entry]:
        """Logits, under ``rankings``."""
        return [Entry(one["index"], one["logit"]) for one in answer["rankings"]]
