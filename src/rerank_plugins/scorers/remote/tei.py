"""Text Embeddings Inference."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.errors import RemoteError
from rerank_plugins.scorers.base import Scale
from rerank_plugins.scorers.remote.dialect import Dialect, Entry


class Tei(Dialect):
    """``POST /rerank {query, texts}`` gives ``[{index, score}]``. Logits are asked for: probabilities round to 1.0."""

    name = "tei"
    path = "/rerank"
    scale: Scale = "logit"
    max_documents = 32  # its default; what /info says takes its place
    max_bytes = 2_000_000
    info_path = "/info"

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """Long texts are cut by the server, as it does by itself since 1.9."""
        return {"query": query, "texts": list(documents), "raw_scores": True, "truncate": True}

    def entries(self, answer: Any) -> list[Entry]:
        """A bare list."""
        return [Entry(one["index"], one["score"]) for one in answer]

    def learn(self, info: Any) -> None:
        """Take ``max_client_batch_size``; refuse a server whose model is no reranker."""
        if not isinstance(info, dict):
            return
        kind = info.get("model_type")
        if isinstance(kind, dict) and "reranker" not in kind:
            raise RemoteError(
                f"This server has {info.get('model_id')!r}, of the type {'/'.join(map(str, kind))}, expected a "
                f"reranker. Start text-embeddings-router with a cross-encoder of one label."
            )
        most = info.get("max_client_batch_size")
        if isinstance(most, int) and most > 0:
            self.max_documents = most

    def is_too_large(self, status: int, words: str) -> bool:
        """Too many texts are a 422, whatever its documentation says."""
        return status == 413 or (status == 422 and "batch size" in words)
