"""LlamaIndex: `RerankPostprocessor`, a node postprocessor for query and chat engines."""

from __future__ import annotations

import pickle
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.ranking import RankedResult
from rerank_plugins.reranker import check_query

try:
    from llama_index.core.bridge.pydantic import ConfigDict, model_serializer, model_validator
    from llama_index.core.callbacks import CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
except ImportError as exc:
    raise MissingExtraError("llama-index", "rerank_plugins.llama_index", str(exc.name)) from exc

from rerank_plugins.adapter_fields import ModelFields, ScoreThreshold, TopN

RETRIEVAL_SCORE = "retrieval_score"
"""Metadata key of ``keep_retrieval_score``, the one LlamaIndex's own rerankers use."""

_dispatcher = get_dispatcher(__name__)


class RerankPostprocessor(ModelFields, BaseNodePostprocessor):
    """Keeps the nodes most relevant to the query, best first.

    What comes out are new `NodeWithScore` around the same nodes, the score a built-in float in
    [0, 1], so that ``SimilarityPostprocessor`` may follow. What came in, wrappers included, is
    untouched. Equal scores keep their order, nodes without text get 0.0, no nodes load no model.

    Every call is one span with one ``ReRankStartEvent`` and one ``ReRankEndEvent``, and one
    ``CBEventType.RERANKING`` callback, sync and async.

    Raises:
        InvalidInputError: No query, a blank one, or something that is no `NodeWithScore`.
        ScoringError: The scorer gave NaN, or not one number a node.
        ModelNotFoundError, ModelLoadError: At the first use; the model is loaded then, once a process
            for equal options.
    """

    top_n: TopN = 5
    """How many nodes to keep; None keeps all, 0 none."""
    score_threshold: ScoreThreshold = None
    """In [0, 1]: only scores at or above it are kept, before ``top_n`` cuts."""
    keep_retrieval_score: bool = False
    """Write the score that a node came with into ``metadata["retrieval_score"]`` of a copy of the node,
    where neither an embedder nor an LLM reads it."""
    metadata_mode: MetadataMode = MetadataMode.EMBED
    """Which metadata is read before the text; ``MetadataMode.NONE`` for the text alone."""

    model_config = ConfigDict(
        arbitrary_types_allowed=True, extra="forbid", validate_assignment=True, protected_namespaces=()
    )

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex serializes this class under."""
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes, query = _checked(nodes, query_bundle)
        with self._traced(nodes, query_bundle) as best:
            if nodes and self.top_n != 0:
                best.extend(self._rewrapped(nodes, self._reranker().rerank(query, self._texts(nodes), **self._cut())))
        return best

    # The mixin opens a span around the sync method by itself, but not around an overridden async one.
    @_dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        nodes, query = _checked(nodes, query_bundle)
        with self._traced(nodes, query_bundle) as best:
            if nodes and self.top_n != 0:
                reranker = await self._areranker()
                best.extend(self._rewrapped(nodes, await reranker.arerank(query, self._texts(nodes), **self._cut())))
        return best

    @contextmanager
    def _traced(self, nodes: list[NodeWithScore], query: QueryBundle | None) -> Iterator[list[NodeWithScore]]:
        """Events and callback around the filling of the list that it gives."""
        label, count = self._model_label(), len(nodes) if self.top_n is None else self.top_n
        payload: dict[str, Any] = {
            EventPayload.NODES: nodes,
            EventPayload.MODEL_NAME: label,
            EventPayload.QUERY_STR: query.query_str if query else None,
            EventPayload.TOP_K: count,
        }
        best: list[NodeWithScore] = []
        _dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=count, model_name=label))
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            yield best
            event.on_end(payload={EventPayload.NODES: list(best)})  # the caller gets the other list
        _dispatcher.event(ReRankEndEvent(nodes=best))

    def _cut(self) -> dict[str, Any]:
        return {"top_n": self.top_n, "score_threshold": self.score_threshold}

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        return [_read(node.node).get_content(metadata_mode=self.metadata_mode) for node in nodes]

    def _rewrapped(self, nodes: list[NodeWithScore], results: list[RankedResult]) -> list[NodeWithScore]:
        found = [(nodes[result.index], result.score) for result in results]
        if not self.keep_retrieval_score:
            return [given.model_copy(update={"score": score}) for given, score in found]
        return [
            given.model_copy(update={"score": score, "node": _with_retrieval_score(given)}) for given, score in found
        ]

    @model_validator(mode="before")
    @classmethod
    def _without_class_name(cls, fields: Any) -> Any:
        # Written beside the fields by LlamaIndex, and not taken out by all of its readers.
        return {k: v for k, v in fields.items() if k != "class_name"} if isinstance(fields, dict) else fields

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: Any, info: Any) -> dict[str, Any]:  # noqa: ARG002 - LlamaIndex's signature
        """The fields, as LlamaIndex writes components; see `ModelFields.custom_model_dump`."""
        return {**self._written(handler(self)), "class_name": self.class_name()}

    def __getstate__(self) -> dict[str, Any]:
        # LlamaIndex drops what it cannot pickle and goes on: the copy would use the default model.
        pickle.dumps(self.reranker)
        state: dict[str, Any] = super().__getstate__()
        return state


def _checked(nodes: Iterable[NodeWithScore], query_bundle: QueryBundle | None) -> tuple[list[NodeWithScore], str]:
    """A list of our own, which the caller cannot change while scores are on their way, and the query."""
    if query_bundle is None:
        raise InvalidInputError(
            "Missing query bundle: nodes can only be reranked for a query. "
            "Call postprocess_nodes(nodes, query_str=...)."
        )
    if not isinstance(query_bundle, QueryBundle):
        raise InvalidInputError(
            f"query_bundle must be a QueryBundle, got {type(query_bundle).__name__}. Give a text as query_str=."
        )
    if not isinstance(nodes, Iterable):
        raise InvalidInputError(f"nodes must be a list of NodeWithScore, got {type(nodes).__name__}.")
    held = list(nodes)
    wrong = [position for position, node in enumerate(held) if not isinstance(node, NodeWithScore)]
    if wrong:
        raise InvalidInputError(
            f"nodes must be NodeWithScore, got {type(held[wrong[0]]).__name__} at position {wrong[0]} "
            f"(counted from 0), {len(wrong)} of {len(held)} in all. Wrap a node in NodeWithScore(node=node)."
        )
    if held:
        check_query(query_bundle.query_str)
    return held, query_bundle.query_str


def _read(node: Any) -> Any:
    # MetadataMode.ALL reads excluded keys too: a second pass would rank by the first one's scores.
    if RETRIEVAL_SCORE not in node.metadata:
        return node
    return node.model_copy(update={"metadata": {k: v for k, v in node.metadata.items() if k != RETRIEVAL_SCORE}})


def _with_retrieval_score(given: NodeWithScore) -> Any:
    node = given.node
    return node.model_copy(
        update={
            "metadata": {**node.metadata, RETRIEVAL_SCORE: given.score},
            "excluded_embed_metadata_keys": _with_key(node.excluded_embed_metadata_keys),
            "excluded_llm_metadata_keys": _with_key(node.excluded_llm_metadata_keys),
        }
    )


def _with_key(keys: list[str]) -> list[str]:
    return [*keys, RETRIEVAL_SCORE] if RETRIEVAL_SCORE not in keys else list(keys)
