"""vLLM."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rerank_plugins.scorers.remote.dialect import Dialect


class Vllm(Dialect):
    """``POST /v1/rerank``. A text that is too long would be an error 400, so the server is told to cut."""

    name = "vllm"
    key_variables = ("VLLM_API_KEY",)

    def request(self, query: str, documents: Sequence[str]) -> dict[str, Any]:
        """-1 cuts at what the model reads."""
        return {**super().request(query, documents), "truncate_prompt_tokens": -1}
