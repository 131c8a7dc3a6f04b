"""LlamaIndex: `RerankPostprocessor`, a node postprocessor for query and chat engines."""

from __future__ import annotations

from typing import Any

from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.ranking import RankedResult

try:
    from llama_index.core.bridge.pydantic import ConfigDict
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as exc:
    raise MissingExtraError("llama-index", "rerank_plugins.llama_index", str(exc.name)) from exc

from rerank_plugins.adapter_fields import ModelFields, ScoreThreshold, TopN

_dispatcher = get_dispatcher(__name__)


class RerankPostprocessor(ModelFields, BaseNodePostprocessor):
    """Keeps the nodes most relevant to the query, best first.

    What comes out are new `NodeWithScore` around the same nodes, the score a built-in float in
    [0, 1]. What came in, wrappers included, is untouched.

    Raises:
        InvalidInputError: No query, or a blank one.
        ModelNotFoundError, ModelLoadError: At the first use; the model is loaded then, once a process.
    """

    top_n: TopN = 5
    """How many nodes to keep; None keeps all."""
    score_threshold: ScoreThreshold = None
    """Keep only scores at or above this, before ``top_n`` cuts."""

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid", validate_assignment=True)

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex serializes this class under."""
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        if not nodes:
            return []
        return _rewrapped(nodes, self._reranker().rerank(query, _texts(nodes), **self._cut()))

    # The mixin opens a span around the sync method by itself, but not around an overridden async one.
    @_dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        query = _query(query_bundle)
        if not nodes:
            return []
        reranker = await self._areranker()
        return _rewrapped(nodes, await reranker.arerank(query, _texts(nodes), **self._cut()))

    def _cut(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "score_threshold": self.score_threshold}


def _query(query_bundle: QueryBundle | None) -> str:
    if query_bundle is None:
        raise InvalidInputError(
            "Missing query bundle: nodes can only be reranked for a query. "
            "Call postprocess_nodes(nodes, query_str=...)."
        )
    return query_bundle.query_str


def _texts(nodes: list[NodeWithScore]) -> list[str]:
    return [node.node.get_content(metadata_mode=MetadataMode.EMBED) for node in nodes]


def _rewrapped(nodes: list[NodeWithScore], results: list[RankedResult]) -> list[NodeWithScore]:
    return [nodes[result.index].model_copy(update={"score": result.score}) for result in results]
