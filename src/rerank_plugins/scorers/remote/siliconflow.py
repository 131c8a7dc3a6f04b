"""SiliconFlow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.remote.dialect import Billed, Dialect, as_count


class SiliconFlow(Dialect):
    """``POST /v1/rerank``; China's address unless one is given."""

    name = "siliconflow"
    service = "https://api.siliconflow.cn"
    key_variables = ("SILICONFLOW_API_KEY",)
    needs_model = True
    instruction_field = "instruction"

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """All documents are wanted, and none of their texts."""
        shared = super().request(query, documents)
        return {**shared, "top_n": len(documents), "return_documents": False}

    def billed(self, answer: Any) -> Billed:
        """``meta.tokens.input_tokens``, or ``usage`` as others have it."""
        meta = answer.get("meta")
        tokens = meta.get("tokens") if isinstance(meta, dict) else None
        return Billed(as_count(tokens.get("input_tokens"))) if isinstance(tokens, dict) else super().billed(answer)
