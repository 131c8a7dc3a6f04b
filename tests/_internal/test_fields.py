"""Fields of adapters that were set without a check, as pydantic's model_copy(update=...) sets them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.runnables import ConfigurableField

from langchain_stand_ins import Fixed, documents
from llama_index_stand_ins import nodes
from rerank_plugins import InvalidInputError
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder, RerankRetriever
from rerank_plugins.llama_index import RerankPostprocessor
from scorers import QUERY, TEXTS, ByLength

RETRIEVED = {"base_retriever": Fixed(held=documents())}

CLASSES: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "compressor": (RerankCompressor, {}),
    "retriever": (RerankRetriever, RETRIEVED),
    "cross-encoder": (RerankCrossEncoder, {}),
    "postprocessor": (RerankPostprocessor, {}),
}

CALLS: dict[str, Callable[[Any], Any]] = {
    "compressor": lambda adapter: adapter.compress_documents(documents(), QUERY),
    "retriever": lambda adapter: adapter.invoke(QUERY),
    "cross-encoder": lambda adapter: adapter.score([(QUERY, text) for text in TEXTS]),
    "postprocessor": lambda adapter: adapter.postprocess_nodes(nodes(), query_str=QUERY),
}

# The fields of those that cut, then of all that read documents, then of one of them.
CUTTING = {
    "top_n": (-2, "2", 1.5, True),
    "score_threshold": (7, "0.5", float("nan")),
    "deadline": (0, -1, "1"),
    "on_deadline": ("soon",),
    "on_error": ("ignore", None),
    "highlight": ("no", 1),
    "mark_truncated": ("no", 0),
}
READING = {"score_key": ("", None, 3), "rank_fields": ("title", (1,), None), "document_text": ("title",)}
WRONG: dict[str, dict[str, tuple[Any, ...]]] = {
    "compressor": {**CUTTING, **READING},
    "retriever": {**CUTTING, **READING, "fetch_k": (0, "5"), "base_retriever": (None,), "compressor": ("x",)},
    "cross-encoder": {"reranker": (7, "name")},
    "postprocessor": {**CUTTING, "keep_retrieval_score": ("no",), "metadata_mode": ("some",)},
}
CASES = [
    pytest.param(adapter, name, value, id=f"{adapter}: {name}={value!r}")
    for adapter, fields in WRONG.items()
    for name, values in fields.items()
    for value in values
]


def unchecked(adapter: str, how: str, **fields: Any) -> Any:
    """An adapter with these fields, set in a way that checks nothing."""
    kind, others = CLASSES[adapter]
    if how == "model_construct":
        return kind.model_construct(**{"reranker": ByLength(), **others, **fields})
    return kind(reranker=ByLength(), **others).model_copy(update=fields)


@pytest.mark.parametrize("how", ["model_copy", "model_construct"])
@pytest.mark.parametrize(("adapter", "name", "value"), CASES)
def test_a_wrong_field_is_refused_by_the_call(how: str, adapter: str, name: str, value: Any) -> None:
    """However it came in, the call is an error that names the field."""
    with pytest.raises(InvalidInputError, match=name):
        CALLS[adapter](unchecked(adapter, how, **{name: value}))


@pytest.mark.parametrize("option", [{"engine": "gpu"}, {"local_files_only": "no"}, {"max_length": 0}, {"model": ""}])
@pytest.mark.parametrize("adapter", CLASSES)
def test_a_wrong_loading_option_is_refused_by_the_call(adapter: str, option: dict[str, Any]) -> None:
    """Before a model is looked for."""
    kind, others = CLASSES[adapter]
    (name,) = option
    with pytest.raises(InvalidInputError, match=name):
        CALLS[adapter](kind(model="no/such-model", **others).model_copy(update=option))


@pytest.mark.parametrize("adapter", CLASSES)
def test_a_field_that_does_not_exist_is_refused_by_the_call(adapter: str) -> None:
    """A misspelt name in model_copy changes nothing, and the call says so, with the right name."""
    with pytest.raises(InvalidInputError, match=r"has no option 'top_k'.*It is called top_n"):
        CALLS[adapter](unchecked(adapter, "model_copy", top_k=2))


@pytest.mark.parametrize(
    ("adapter", "fields"),
    [
        ("compressor", {"rank_fields": ("title",), "document_text": str}),
        ("compressor", {"highlight": True, "score_key": "highlight"}),
        ("retriever", {"compressor": RerankCompressor(reranker=ByLength()), "rank_fields": ("title",)}),
    ],
)
def test_fields_that_do_not_fit_each_other_are_refused_by_the_call(adapter: str, fields: dict[str, Any]) -> None:
    """Two that exclude each other are as wrong in a copy as in the constructor."""
    with pytest.raises(InvalidInputError, match=r"got |score_key="):
        CALLS[adapter](unchecked(adapter, "model_copy", **fields))


async def test_the_async_calls_refuse_it_too() -> None:
    """Whatever the way in, before anything is scored."""
    with pytest.raises(InvalidInputError, match="top_n must be 0 or more"):
        await unchecked("compressor", "model_copy", top_n=-2).acompress_documents(documents(), QUERY)
    with pytest.raises(InvalidInputError, match="top_n must be 0 or more"):
        await unchecked("retriever", "model_copy", top_n=-2).ainvoke(QUERY)
    with pytest.raises(InvalidInputError, match="top_n must be 0 or more"):
        await unchecked("postprocessor", "model_copy", top_n=-2).apostprocess_nodes(nodes(), query_str=QUERY)


@pytest.mark.parametrize("adapter", CLASSES)
def test_good_fields_of_a_copy_count(adapter: str) -> None:
    """A copy and one that was constructed without checks work as the constructor's do."""
    kind, others = CLASSES[adapter]
    fields = {} if adapter == "cross-encoder" else {"top_n": 2}
    expected = CALLS[adapter](kind(reranker=ByLength(), **others, **fields))
    for how in ("model_copy", "model_construct"):
        assert CALLS[adapter](unchecked(adapter, how, **fields)) == expected


def test_configurable_fields_are_checked() -> None:
    """A wrong value in the configuration of a call is an error of that call, a ValueError."""
    configurable = RerankCompressor(reranker=ByLength()).configurable_fields(top_n=ConfigurableField(id="top_n"))
    given = {"documents": documents(), "query": QUERY}
    with pytest.raises(ValueError, match="top_n must be 0 or more"):
        configurable.invoke(given, {"configurable": {"top_n": -2}})  # type: ignore[arg-type]


def test_what_a_subclass_caches_is_no_field() -> None:
    """A cached property of somebody's own class stands beside the fields and is left alone."""

    class Cached(RerankCompressor):
        @functools.cached_property
        def tag(self) -> str:
            return "mine"

    compressor = Cached(reranker=ByLength(), top_n=1)
    assert compressor.tag == "mine"
    assert len(compressor.compress_documents(documents(), QUERY)) == 1
