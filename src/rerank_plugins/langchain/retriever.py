"""`RerankRetriever`: any retriever, reranked."""

from __future__ import annotations

from typing import Annotated, Any, Self

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.configurable import DynamicRunnable
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import PlainValidator, model_validator

from rerank_plugins._internal.fields import MODEL_CONFIG, TopN
from rerank_plugins._internal.validation import check_top_n
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.langchain.compressor import CompressorFields, PerCall, RerankCompressor, is_blank_query


class _NotGiven(int):
    """Marks a default: LangChain rebuilds a retriever from all its fields, given or not. Pickles of 0.1 name it."""


def _as_fetch_k(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InvalidInputError(f"fetch_k must be a whole number of at least 1, got {value!r}.")
    return value


class RerankRetriever(CompressorFields, BaseRetriever):
    """Fetches ``fetch_k`` candidates from another retriever and keeps the ``top_n`` most relevant, best first.

    Takes the fields of `RerankCompressor`, or a ``compressor``. ``invoke(query, top_n=..., fetch_k=...)`` override the
    fields for one call; other keyword arguments are passed to ``base_retriever``.

    A blank query gives no documents, with a warning in the log.

    Raises:
        InvalidInputError: A wrong ``top_n`` or ``fetch_k``, or a field that was set unchecked.
        ScoringError: The scorer gave NaN, or not one number a document.
        ModelNotFoundError, ModelLoadError: At the first use.
    """

    base_retriever: RetrieverLike
    """Where candidates come from."""
    compressor: RerankCompressor | None = None
    """To use instead of one made from this retriever's own fields."""
    fetch_k: Annotated[int, PlainValidator(_as_fetch_k)] = _NotGiven(50)
    """How many candidates are reranked, never fewer than ``top_n``. A vector store's retriever, also one
    with a configuration, retries or configurable fields around it, is asked for as many; where ``fetch_k`` is
    not given, for its own ``k`` if it has one. Any other retriever gives what it gives, of which the first
    ``fetch_k`` are taken: set its own number of results to as many."""
    top_n: TopN = _NotGiven(5)
    """How many documents to keep; None keeps all, 0 none. Where it is not given, that of ``compressor``."""

    model_config = MODEL_CONFIG

    @model_validator(mode="after")
    def _one_place_for_settings(self) -> Self:
        if self.compressor is not None:
            fields = CompressorFields.model_fields.items()
            named = " and ".join(name for name, field in fields if getattr(self, name) != field.default)
            if named:
                raise ValueError(
                    f"got compressor and, beside it, {named}. Set them on the compressor, or leave it out."
                )
        return self

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,
        top_n: PerCall = ...,
        fetch_k: int | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        compressor, kept, fetched, search = self._plan(top_n, fetch_k, kwargs)
        if is_blank_query(query):
            return []
        config: Any = {"callbacks": run_manager.get_child()}
        found = self.base_retriever.invoke(query, config, **search)
        return compressor.compress_documents(_first(found, fetched), query, run_manager.get_child(), top_n=kept)

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,
        top_n: PerCall = ...,
        fetch_k: int | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        compressor, kept, fetched, search = self._plan(top_n, fetch_k, kwargs)
        if is_blank_query(query):
            return []
        config: Any = {"callbacks": run_manager.get_child()}
        found = await self.base_retriever.ainvoke(query, config, **search)
        return await compressor.acompress_documents(_first(found, fetched), query, run_manager.get_child(), top_n=kept)

    def _plan(
        self, top_n: PerCall, fetch_k: int | None, kwargs: dict[str, Any]
    ) -> tuple[RerankCompressor, int | None, int, dict[str, Any]]:
        """The compressor, how many documents to keep and to fetch, and the base retriever's arguments, for one call."""
        self._check_fields()
        store = _vector_store(self.base_retriever)
        ours = [name for name in kwargs if name in CompressorFields.model_fields or (name == "k" and store is not None)]
        if ours:
            raise InvalidInputError(
                f"Got {', '.join(ours)}; a call takes top_n and fetch_k (the k of the vector store), and hands what "
                f"it does not know to base_retriever. The other settings are fields: set them on the retriever."
            )
        own_fields = {name: getattr(self, name) for name in CompressorFields.model_fields}
        compressor = self.compressor or RerankCompressor(**own_fields)
        kept = check_top_n(self.top_n if top_n is ... else top_n)
        if self.compressor is not None and isinstance(kept, _NotGiven):
            kept = self.compressor.top_n
        fetched = self.fetch_k if fetch_k is None else _as_fetch_k(fetch_k)
        if store is None:  # no other kind of retriever says what its number of results is called
            return compressor, kept, max(fetched, kept or 0), kwargs
        own = store.search_kwargs.get("k")
        if isinstance(fetched, _NotGiven) and isinstance(own, int) and own > 0:
            fetched = own
        fetched = max(fetched, kept or 0)
        search = {"k": fetched, **kwargs}
        if store.search_type == "mmr":
            # MMR chooses k among a fetch_k of its own, in LangChain's defaults 4 among 20: five times as many.
            search["fetch_k"] = max(5 * fetched, store.search_kwargs.get("fetch_k", 0))
        return compressor, kept, fetched, search


def _vector_store(retriever: Any) -> VectorStoreRetriever | None:
    while not isinstance(retriever, VectorStoreRetriever):
        if isinstance(retriever, RunnableBindingBase):  # with_config, with_retry, bind
            retriever = retriever.bound
        elif isinstance(retriever, DynamicRunnable):  # configurable_fields
            retriever = retriever.default
        else:
            return None
    return retriever


def _first(found: Any, count: int) -> list[Document]:
    try:
        return list(found)[:count]
    except TypeError:
        raise InvalidInputError(
            f"base_retriever gave {type(found).__name__}, expected a list of Documents. "
            f"In a chain, let its last step return the Documents."
        ) from None
