"""`RerankCompressor`: a document compressor that is also a Runnable."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from inspect import iscoroutinefunction
from types import EllipsisType
from typing import Annotated, Any, Self

from langchain_core.callbacks import BaseRunManager, Callbacks
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.load.serializable import SerializedConstructor, SerializedNotImplemented
from langchain_core.runnables import RunnableConfig, RunnableSerializable, ensure_config
from langchain_core.tracers.base import AsyncBaseTracer, BaseTracer
from pydantic import BeforeValidator, Field, model_validator
from pydantic.json_schema import SkipJsonSchema
from typing_extensions import TypedDict  # pydantic reads typing's own from Python 3.12 on only

from rerank_plugins._internal.aio import on_thread, run_blocking
from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.fields import MODEL_CONFIG, CallFields, ScoreThreshold, TopN, check_each
from rerank_plugins._internal.validation import check_top_n
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.highlights import check_highlight, highlight_as_dict
from rerank_plugins.results import Ranking

_log = logging.getLogger("rerank_plugins")

PerCall = int | EllipsisType | None
"""``top_n`` of one call; ``...`` keeps the field's, because None means all."""


def is_blank_query(query: Any) -> bool:
    """Whether a retriever's query is blank; logs a warning if so."""
    if not isinstance(query, str) or not is_blank(query):
        return False
    _log.warning(
        "The query is blank, %a, so no documents are returned. If an LLM generates queries, filter out blank ones.",
        query[:40],
    )
    return True


class RerankInput(TypedDict):
    """What `RerankCompressor` takes as a Runnable."""

    documents: Sequence[Document]
    query: str


def _as_rank_fields(value: Any) -> tuple[str, ...]:
    if isinstance(value, list | tuple) and all(isinstance(key, str) and key.strip() for key in value):
        return tuple(value)
    raise InvalidInputError(f"rank_fields must be names of metadata fields, such as ['title'], got {value!r}.")


class CompressorFields(CallFields):
    """Which text of a document is scored, and which metadata is added."""

    score_threshold: ScoreThreshold = None
    """In [0, 1]: only documents with a score at or above it are kept, at most ``top_n``."""
    score_key: str = Field(default="relevance_score", pattern=r"\S")
    """Metadata key of the score; LangChain's own rerankers use the default."""
    mark_truncated: bool = Field(default=False, strict=True)
    """Also write ``metadata["truncated"]``: whether the model read less than the whole query and text; None if the
    scorer cannot tell."""
    highlight: bool = Field(default=False, strict=True)
    """Also write ``metadata["highlight"]``: the best sentence of ``page_content`` as
    ``{"start": ..., "end": ..., "text": ...}``, or None. Needs the extra ``highlight``."""
    rank_fields: Annotated[tuple[str, ...], BeforeValidator(_as_rank_fields)] = ()
    """Metadata fields that the model reads before the text, one a line; missing ones are skipped."""
    document_text: Annotated[Callable[[Document], str], SkipJsonSchema()] | None = None
    """A function that gives the text to score instead of ``page_content``; not together with ``rank_fields``."""

    @model_validator(mode="after")
    def _check_fields_fit(self) -> Self:
        if iscoroutinefunction(self.document_text):
            raise ValueError("document_text must be a plain function: it is called on a thread, got an async one.")
        if self.rank_fields and self.document_text is not None:
            raise ValueError("got rank_fields and document_text, expected one of them: a callable can read any field.")
        for key, option in (("truncated", "mark_truncated"), ("highlight", "highlight")):
            if getattr(self, option) and self.score_key == key:
                raise ValueError(f"score_key={key!r} is the key that {option} writes. Choose another.")
        return self


class RerankCompressor(CompressorFields, BaseDocumentCompressor, RunnableSerializable[RerankInput, list[Document]]):
    """Keeps the documents most relevant to the query, best first.

    A document compressor (``compress_documents``, for ``ContextualCompressionRetriever``) and a Runnable
    (``invoke({"documents": documents, "query": query})``, ``|``, ``batch``, ``configurable_fields``).

    The results are copies of the documents with the same id, class and metadata, and the score, a float in [0, 1], as
    ``metadata["relevance_score"]``. The input is never changed. Equal scores keep their order, blank documents get 0.0,
    and the model is not loaded for an empty list.

    Every call is one run of this name in a trace. Its metadata has ``model``, ``top_n``, ``score_threshold``, and after
    its end ``n_in``, ``n_out``, ``scores`` (of the documents that are kept, best first), ``truncated`` (positions in
    the input, from 0, of all documents that the model did not read to the end; None if the scorer cannot tell) and
    ``unscored`` (how many documents have no score, because of a deadline or an error; their score is None).

    Raises:
        InvalidInputError: Something that is no Document, a wrong ``top_n``; of ``invoke``, a blank query too.
        ScoringError: The scorer gave NaN, or not one number a document.
        ModelNotFoundError, ModelLoadError: At the first use, which loads the model, once a process for equal options.
    """

    top_n: TopN = 3
    """How many documents to keep; None keeps all, 0 none."""

    model_config = MODEL_CONFIG

    def compress_documents(
        self, documents: Iterable[Document], query: str, callbacks: Callbacks | None = None, *, top_n: PerCall = ...
    ) -> list[Document]:
        """Rerank ``documents``. ``top_n`` takes the field's place for this call; ``...`` keeps the field's.

        A blank query gives no documents, with a warning in the log: `MultiQueryRetriever` asks what an LLM wrote, and
        an empty line must not cost the answers to the others.
        """
        given = {"documents": documents, "query": query}
        return self._run(given, {"callbacks": callbacks}, {"top_n": top_n}, blank_is_error=False)

    async def acompress_documents(
        self, documents: Iterable[Document], query: str, callbacks: Callbacks | None = None, *, top_n: PerCall = ...
    ) -> list[Document]:
        """`compress_documents` without blocking the event loop."""
        given = {"documents": documents, "query": query}
        return await self._arun(given, {"callbacks": callbacks}, {"top_n": top_n}, blank_is_error=False)

    def invoke(self, input: RerankInput, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002 - LangChain's name
        """Rerank ``input["documents"]`` for ``input["query"]``; takes ``top_n=`` for this call."""
        return self._run(input, config, kwargs)

    async def ainvoke(self, input: RerankInput, config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:  # noqa: A002 - LangChain's name
        """`invoke` without blocking the event loop."""
        return await self._arun(input, config, kwargs)

    # All checks are made inside the run, so that what fails them is in the trace as well.

    def _run(
        self, given: Any, config: RunnableConfig | None, options: dict[str, Any], *, blank_is_error: bool = True
    ) -> list[Document]:
        def rerank(given: Any, run_manager: BaseRunManager) -> list[Document]:
            return run_blocking(self._rerank(given, run_manager, options, blank_is_error=blank_is_error, blocking=True))

        return self._call_with_config(rerank, given, self._config(config, options))

    async def _arun(
        self, given: Any, config: RunnableConfig | None, options: dict[str, Any], *, blank_is_error: bool = True
    ) -> list[Document]:
        async def rerank(given: Any, run_manager: BaseRunManager) -> list[Document]:
            return await self._rerank(given, run_manager, options, blank_is_error=blank_is_error, blocking=False)

        return await self._acall_with_config(rerank, given, self._config(config, options))

    async def _rerank(
        self, given: Any, run_manager: BaseRunManager, options: dict[str, Any], *, blank_is_error: bool, blocking: bool
    ) -> list[Document]:
        self._check_fields()
        documents, query = _unpack(given)
        _add_metadata(run_manager, n_in=len(documents))
        top_n = self._top_n(options)
        if not documents or top_n == 0 or (not blank_is_error and is_blank_query(query)):
            return self._select(documents, Ranking([], []), run_manager)
        check_highlight(self.highlight)
        # A callable of the user's may be slow; joining strings is faster than a thread.
        direct = blocking or self.document_text is None
        texts = self._texts(documents) if direct else await on_thread(self._texts, documents)
        highlight_text = (lambda result: documents[result.index].page_content) if self.highlight else None
        ranking = await self._rank(query, texts, highlight_text, top_n, self.score_threshold, blocking=blocking)
        return self._select(documents, ranking, run_manager)

    def _top_n(self, options: dict[str, Any]) -> int | None:
        if unknown := [name for name in options if name != "top_n"]:
            raise InvalidInputError(
                f"Got {', '.join(unknown)}; a call takes top_n only. The other settings are fields: set them on "
                f"the compressor, or use configurable_fields."
            )
        top_n = options.get("top_n", ...)
        return self.top_n if top_n is ... else check_top_n(top_n)

    def _texts(self, documents: list[Document]) -> list[str]:
        if self.document_text is not None:
            return [self.document_text(document) for document in documents]
        if not self.rank_fields:
            return [document.page_content for document in documents]
        texts = []
        for document in documents:
            values = (document.metadata.get(key) for key in self.rank_fields)
            texts.append("\n".join([*(str(value) for value in values if value is not None), document.page_content]))
        return texts

    def _config(self, config: RunnableConfig | None, options: dict[str, Any]) -> RunnableConfig:
        full, top_n = ensure_config(config), options.get("top_n", ...)
        top_n = self.top_n if top_n is ... else top_n
        ours = {"model": self._model_label(), "top_n": top_n, "score_threshold": self.score_threshold}
        full["metadata"] = {**full["metadata"], **ours}
        return full

    def _select(self, documents: list[Document], ranking: Ranking, run_manager: BaseRunManager) -> list[Document]:
        """Copies of the documents that are kept; the run's metadata is about all of them."""
        scored = [result for result in ranking.documents if result.score is not None]
        known = all(result.truncated is not None for result in scored)
        _add_metadata(
            run_manager,
            n_out=len(ranking.kept),
            scores=[result.score for result in ranking.kept],
            truncated=sorted(result.index for result in scored if result.truncated) if known else None,
            unscored=len(ranking.documents) - len(scored),
        )
        copies = []
        for result in ranking.kept:
            marks: dict[str, Any] = {self.score_key: result.score}
            marks |= {"truncated": result.truncated} if self.mark_truncated else {}
            marks |= {"highlight": highlight_as_dict(result)} if self.highlight else {}
            given = documents[result.index]
            copies.append(given.model_copy(update={"metadata": {**given.metadata, **marks}}))
        return copies

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """True: ``dumpd`` writes the fields, ``load`` reads them."""
        return True

    @classmethod
    def get_lc_namespace(cls) -> list[str]:
        """Where ``load`` finds the class."""
        return ["rerank_plugins", "langchain"] if cls is RerankCompressor else cls.__module__.split(".")

    def to_json(self) -> SerializedConstructor | SerializedNotImplemented:
        """The fields. A reranker from `load_reranker` is written as its loading options.

        With a callable or a custom scorer it is LangChain's "not implemented", which ``load`` refuses.
        """
        options = self._loading_options()
        if options is None or self.document_text is not None:
            return self.to_json_not_implemented()
        if self.reranker is not None:
            return self.model_copy(update={"reranker": None, **options.without_key()}).to_json()
        return super().to_json()


def _unpack(given: Any) -> tuple[list[Document], str]:
    if not isinstance(given, dict) or not given.keys() >= {"documents", "query"}:
        got = f"keys {list(given)}" if isinstance(given, dict) else type(given).__name__
        raise InvalidInputError(f"Got {got}, expected {{'documents': [...], 'query': '...'}}.")
    documents = given["documents"]
    if not isinstance(documents, Iterable) or isinstance(documents, Document | str):
        raise InvalidInputError(f"documents must be a list of Documents, got {type(documents).__name__}.")
    documents = list(documents)
    check_each(documents, Document, "documents must be Documents", "Wrap texts in Document(page_content=text).")
    return documents, given["query"]


def _add_metadata(run_manager: BaseRunManager, **values: Any) -> None:
    """Add to the metadata of a run that has begun, for which LangChain has no method.

    Handlers hold the run manager's own dictionary, and ``astream_events`` shows it again at the end of the run. Tracers
    may hold a copy (LangSmith's does in an agent, and where there is a ``configurable``): their runs are updated too.
    """
    run_manager.metadata.update(values)
    for handler in run_manager.handlers:
        if isinstance(handler, BaseTracer | AsyncBaseTracer):
            run = handler.run_map.get(str(run_manager.run_id))
            if run is not None:
                run.metadata.update(values)
