"""LlamaIndex: `RerankPostprocessor`, a node postprocessor for query and chat engines."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Self

from rerank_plugins._internal.aio import run_blocking
from rerank_plugins._internal.validation import check_query
from rerank_plugins.errors import InvalidInputError, MissingExtraError
from rerank_plugins.highlights import check_highlight, highlight_as_dict
from rerank_plugins.results import RankedResult

try:
    from llama_index.core.bridge.pydantic import Field, model_serializer, model_validator
    from llama_index.core.callbacks import CallbackManager, CBEventType, EventPayload
    from llama_index.core.instrumentation import get_dispatcher  # type: ignore[attr-defined]
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.schema import MetadataMode, NodeWithScore, QueryBundle
    from pydantic import PlainValidator  # not in LlamaIndex's bridge
except ImportError as exc:
    raise MissingExtraError("llama-index", "rerank_plugins.llama_index", str(exc.name)) from exc

from rerank_plugins._internal.fields import MODEL_CONFIG, CallFields, ScoreThreshold, TopN, check_each

__all__ = ["RETRIEVAL_SCORE", "RerankPostprocessor"]

RETRIEVAL_SCORE = "retrieval_score"
"""Metadata key of ``keep_retrieval_score``, the one LlamaIndex's own rerankers use."""

_dispatcher = get_dispatcher(__name__)


def _as_callback_manager(value: Any) -> CallbackManager:
    if value is not None and not isinstance(value, CallbackManager):
        raise InvalidInputError(f"callback_manager must be a CallbackManager, got {type(value).__name__}.")
    return CallbackManager() if value is None else value


class RerankPostprocessor(CallFields, BaseNodePostprocessor):
    """Keeps the nodes most relevant to the query, best first.

    The results are new `NodeWithScore` around the same nodes, with the score as a float in [0, 1], so that
    ``SimilarityPostprocessor`` may follow. The input is never changed. Equal scores keep their order, nodes without
    text get 0.0, and the model is not loaded for an empty list.

    Every call, sync or async, is one span with a ``ReRankStartEvent`` and a ``ReRankEndEvent``, and one
    ``CBEventType.RERANKING`` callback. Wrong input raises before the first event. A later failure drops the span, ends
    the callback with the error and has no end event.

    Raises:
        InvalidInputError: No query, a blank one, or something that is no `NodeWithScore`.
        ScoringError: The scorer gave NaN, or not one number a node.
        ModelNotFoundError, ModelLoadError: At the first use, which loads the model, once a process for equal options.
    """

    top_n: TopN = 5
    """How many nodes to keep; None keeps all, 0 none."""
    score_threshold: ScoreThreshold = None
    """In [0, 1]: only scores at or above it are kept, before ``top_n`` cuts."""
    keep_retrieval_score: bool = Field(default=False, strict=True)
    """Write the retrieval score of a node into ``metadata["retrieval_score"]`` of a shallow copy of the node, under a
    key that is excluded from what embedders and LLMs read."""
    mark_truncated: bool = Field(default=False, strict=True)
    """Write ``metadata["truncated"]`` into such a copy: whether the model read less than the whole query and text; None
    if the scorer cannot tell."""
    highlight: bool = Field(default=False, strict=True)
    """Write ``metadata["highlight"]`` into such a copy: the best sentence of the node's text, without its metadata, as
    ``{"start": ..., "end": ..., "text": ...}``, or None. Needs the extra ``highlight``."""
    metadata_mode: MetadataMode = MetadataMode.EMBED
    """Which metadata the model reads before the text; ``MetadataMode.NONE`` for the text alone."""
    callback_manager: Annotated[CallbackManager, PlainValidator(_as_callback_manager)] = Field(
        default_factory=CallbackManager, exclude=True
    )
    """Set by LlamaIndex's engines. Not part of pickles and dumps, shared by copies."""

    model_config = MODEL_CONFIG

    @classmethod
    def class_name(cls) -> str:
        """The name LlamaIndex serializes this class under."""
        return "RerankPostprocessor"

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return run_blocking(self._rerank(nodes, query_bundle, blocking=True))

    # The mixin opens a span around the sync method by itself, but not around an overridden async one.
    @_dispatcher.span
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        return await self._rerank(nodes, query_bundle, blocking=False)

    async def _rerank(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None, *, blocking: bool
    ) -> list[NodeWithScore]:
        self._check_fields()
        nodes, bundle = _check_nodes(nodes, query_bundle)
        texts = self._texts(nodes)
        label, count = self._model_label(), len(nodes) if self.top_n is None else self.top_n
        payload: dict[str, Any] = {EventPayload.NODES: nodes, EventPayload.QUERY_STR: bundle.query_str}
        payload |= {EventPayload.MODEL_NAME: label, EventPayload.TOP_K: count}
        best: list[NodeWithScore] = []
        _dispatcher.event(ReRankStartEvent(query=bundle, nodes=nodes, top_n=count, model_name=label))
        with self.callback_manager.event(CBEventType.RERANKING, payload=payload) as event:
            if texts:
                highlight_text = (lambda result: _own_text(nodes[result.index].node)) if self.highlight else None
                cut = (self.top_n, self.score_threshold)
                ranking = await self._rank(bundle.query_str, texts, highlight_text, *cut, blocking=blocking)
                best = self._rewrap(nodes, ranking.kept)
            event.on_end(payload={EventPayload.NODES: list(best)})  # the caller gets the other list
        _dispatcher.event(ReRankEndEvent(nodes=best))
        return best

    def _texts(self, nodes: list[NodeWithScore]) -> list[str]:
        """The texts to score; empty where nothing can be kept."""
        if self.top_n == 0 or not nodes:
            return []
        check_highlight(self.highlight)
        texts = []
        for node in (given.node for given in nodes):
            text: object = _without_marks(node).get_content(metadata_mode=self.metadata_mode)
            if not isinstance(text, str):
                raise InvalidInputError(
                    f"get_content() of a {type(node).__name__} (id {node.node_id}) gave {type(text).__name__}, "
                    f"expected a string. Nothing was ranked: leave the node out, or let its class give text."
                )
            texts.append(text)
        return texts

    def _rewrap(self, nodes: list[NodeWithScore], results: list[RankedResult]) -> list[NodeWithScore]:
        found = []
        for result in results:
            given = nodes[result.index]
            update: dict[str, Any] = {"score": result.score}
            marks: dict[str, Any] = {RETRIEVAL_SCORE: given.score} if self.keep_retrieval_score else {}
            marks |= {"truncated": result.truncated} if self.mark_truncated else {}
            marks |= {"highlight": highlight_as_dict(result)} if self.highlight else {}
            if marks:
                names = ("excluded_embed_metadata_keys", "excluded_llm_metadata_keys")
                hidden = {name: list(dict.fromkeys([*getattr(given.node, name), *marks])) for name in names}
                metadata = {**given.node.metadata, **marks}
                update["node"] = given.node.model_copy(update={"metadata": metadata, **hidden})
            found.append(given.model_copy(update=update))
        return found

    @model_validator(mode="before")
    @classmethod
    def _without_class_name(cls, fields: Any) -> Any:
        # LlamaIndex writes it beside the fields, and not all of its readers remove it.
        if not isinstance(fields, dict) or fields.get("class_name") != cls.class_name():
            return fields
        return {name: value for name, value in fields.items() if name != "class_name"}

    @model_serializer(mode="wrap")
    def custom_model_dump(self, handler: Any, info: Any) -> dict[str, Any]:
        """The fields, as LlamaIndex writes components; see `ModelFields.custom_model_dump`."""
        return {**self._add_loading_options(handler(self), info), "class_name": self.class_name()}

    def to_dict(self, **kwargs: Any) -> dict[str, Any]:
        """The fields, for ``from_dict``; raises `InvalidInputError` for a custom scorer."""
        if self._loading_options() is None:
            raise InvalidInputError(
                f"The scorer {self._model_label()} cannot be written into a dictionary, only pickled. "
                f"Name a model with model=, or give a reranker from load_reranker(...)."
            )
        return dict(super().to_dict(**kwargs))

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        # It grows with every call outside a trace, and its handlers may hold API keys and locks.
        state["__dict__"].pop("callback_manager", None)
        return state

    def __deepcopy__(self, memo: dict[int, Any] | None = None) -> Self:
        memo = {} if memo is None else memo
        memo[id(self.callback_manager)] = self.callback_manager
        return super().__deepcopy__(memo)


def _check_nodes(nodes: Any, query_bundle: QueryBundle | None) -> tuple[list[NodeWithScore], QueryBundle]:
    if query_bundle is None:
        raise InvalidInputError("Missing query bundle, got None. Call postprocess_nodes(nodes, query_str=...).")
    if not isinstance(query_bundle, QueryBundle):
        raise InvalidInputError(
            f"query_bundle must be a QueryBundle, got {type(query_bundle).__name__}. Give a text as query_str=."
        )
    if not isinstance(nodes, Iterable) or isinstance(nodes, NodeWithScore):
        raise InvalidInputError(f"nodes must be a list of NodeWithScore, got {type(nodes).__name__}.")
    held = list(nodes)  # a list of our own, which the caller cannot change while it is scored
    check_each(held, NodeWithScore, "nodes must be NodeWithScore", "Wrap a node in NodeWithScore(node=node).")
    if held:
        check_query(query_bundle.query_str)
    return held, query_bundle


def _own_text(node: Any) -> str:
    """The text that highlights are of, whatever metadata the model read before it."""
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    return text if isinstance(text, str) else ""  # a custom node class may have text only with its metadata


def _without_marks(node: Any) -> Any:
    """The node without what an earlier pass wrote: MetadataMode.ALL would read it, and so rank by those scores."""
    hidden = set(node.excluded_embed_metadata_keys) & set(node.excluded_llm_metadata_keys)
    marks = {RETRIEVAL_SCORE, "truncated", "highlight"} & hidden & node.metadata.keys()
    if not marks:
        return node
    return node.model_copy(update={"metadata": {k: v for k, v in node.metadata.items() if k not in marks}})
