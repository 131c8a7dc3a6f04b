"""LangChain: a document compressor, a retriever, a cross-encoder, and a middleware for agents.

`RerankCompressor` goes wherever a document compressor or a Runnable goes. `RerankRetriever` is a
retriever around another. `RerankCrossEncoder` gives our scores to LangChain's own
``CrossEncoderReranker``. `RerankMiddleware` is for ``create_agent``, and alone needs the package
langchain beside langchain-core.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rerank_plugins.errors import MissingExtraError

try:
    import langchain_core  # noqa: F401 - only asked whether it is there
except ImportError as exc:
    raise MissingExtraError("langchain", "rerank_plugins.langchain", str(exc.name)) from exc

from rerank_plugins.langchain.compressor import RerankCompressor, RerankInput
from rerank_plugins.langchain.cross_encoder import RerankCrossEncoder
from rerank_plugins.langchain.retriever import RerankRetriever

if TYPE_CHECKING:
    from rerank_plugins.langchain.middleware import RerankMiddleware as RerankMiddleware

# Without RerankMiddleware: `import *` would fetch it, and fail where langchain is not installed.
__all__ = ["RerankCompressor", "RerankCrossEncoder", "RerankInput", "RerankRetriever"]


def __getattr__(name: str) -> Any:
    # langchain brings langgraph with it: only those who build agents should wait for that.
    if name == "RerankMiddleware":
        from rerank_plugins.langchain.middleware import RerankMiddleware

        return RerankMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
