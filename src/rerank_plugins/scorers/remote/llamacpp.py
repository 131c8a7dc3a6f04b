"""llama.cpp's server."""

from __future__ import annotations

from rerank_plugins.scorers.base import Scale
from rerank_plugins.scorers.remote.dialect import Dialect


class LlamaCpp(Dialect):
    """``POST /v1/rerank``, of ``llama-server --reranking``. Scores are as the model gives them: logits of BGE."""

    name = "llamacpp"
    key_variables = ("LLAMA_API_KEY",)
    scale: Scale = "logit"
