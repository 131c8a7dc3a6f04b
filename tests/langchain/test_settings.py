"""Fields of the adapters: what is checked, what is shared, what can be written down and read again."""

from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.load import dumpd, dumps, load, loads
from pydantic import ValidationError

from langchain_stand_ins import QUERY, ByLength, documents
from rerank_plugins import Reranker, load_reranker
from rerank_plugins._internal.fields import OPTIONS, ModelFields
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder
from rerank_plugins.loading import LoadedReranker


class Narrow(RerankCompressor):
    """A subclass, as users make them."""


def read(written: dict[str, Any]) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls its own function beta
        return load(written, valid_namespaces=["rerank_plugins"], allowed_objects=[RerankCompressor])


def test_defaults() -> None:
    """Three documents, no threshold, LangChain's own key, and the multilingual model."""
    compressor = RerankCompressor()
    assert (compressor.top_n, compressor.score_threshold, compressor.score_key) == (3, None, "relevance_score")
    assert compressor.model == "BAAI/bge-reranker-v2-m3"


def test_the_loading_options_are_those_of_load_reranker() -> None:
    """Every option of load_reranker is a field, with the same default."""
    parameters = inspect.signature(load_reranker).parameters
    named = {name: parameter.default for name, parameter in parameters.items()}
    assert {name: ModelFields.model_fields[name].default for name in OPTIONS} == named


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"top_n": -1}, "top_n must be 0 or more"),
    ({"top_n": "3"}, "top_n must be an integer"),
    ({"top_n": True}, "top_n must be an integer"),
    ({"score_threshold": 1.5}, r"score_threshold must lie in \[0, 1\]"),
    ({"score_threshold": float("nan")}, r"score_threshold must lie in \[0, 1\]"),
    ({"score_key": " "}, "should match pattern"),
    ({"engine": "onnx"}, "'auto', 'torch' or 'openvino'"),
    ({"precision": "half"}, "'fp32'"),
    ({"max_length": 0}, "max_length must be a whole number of at least 1"),
    ({"max_query_share": 1.0}, "max_query_share must be a number greater than 0 and less than 1"),
    ({"model": " "}, "model must be a string or a Path, not blank"),
    ({"reranker": "rerank-mini-en"}, "Name a model with model="),
    ({"reranker": 7}, "must have a method score"),
    ({"reranker": ByLength}, "got the class ByLength"),
    ({"rank_fields": "title"}, r"such as \['title'\], got 'title'"),
    ({"rank_fields": ["", "title"]}, r"such as \['title'\], got \['', 'title'\]"),
    ({"model": None}, "got None. Expected: A folder, a bundled model"),
    ({"cache_folder": 7}, "cache_folder must be a string or a Path, not blank; got 7"),
    ({"max_length": True}, "valid integer"),
    ({"local_files_only": "yes"}, "valid boolean"),
    ({"document_text": asyncio.sleep}, "must be a plain function"),
]


@pytest.mark.parametrize(("wrong", "message"), WRONG)
def test_wrong_settings_are_refused_when_they_are_set(wrong: dict[str, Any], message: str) -> None:
    """On construction and on assignment, which leaves the compressor as it was."""
    with pytest.raises(ValidationError, match=message):
        RerankCompressor(**wrong)
    compressor = RerankCompressor()
    (name,) = wrong
    with pytest.raises(ValidationError, match=message):
        setattr(compressor, name, wrong[name])
    assert compressor == RerankCompressor()


@pytest.mark.parametrize(
    ("unknown", "message"),
    [
        ({"topn": 3}, "RerankCompressor has no option 'topn'"),
        ({"top_k": 3}, "It is called top_n"),
        ({"model_name": "x"}, "It is called model"),
        ({"use_fp16": True}, "precision='fp16'"),
    ],
)
def test_an_unknown_field_is_an_error(unknown: dict[str, Any], message: str) -> None:
    """A misspelt or foreign setting is named, with what to use instead, and cannot be assigned either."""
    with pytest.raises(ValidationError, match=message):
        RerankCompressor(**unknown)
    with pytest.raises(ValidationError, match=message):
        setattr(RerankCompressor(), *unknown.popitem())


def test_loading_options_beside_a_reranker_are_refused() -> None:
    """What is loaded cannot be loaded otherwise: the error says where the option belongs."""
    with pytest.raises(ValidationError, match="got reranker and, beside it, model and max_length"):
        RerankCompressor(reranker=ByLength(), model="x", max_length=12)
    compressor = RerankCompressor(reranker=ByLength())
    with pytest.raises(ValidationError, match="beside it, engine"):
        compressor.engine = "torch"
    assert compressor.engine == "auto"


def test_two_ways_to_the_text_are_refused() -> None:
    """rank_fields and document_text exclude each other, and so do two uses of one key."""
    with pytest.raises(ValidationError, match="rank_fields and document_text"):
        RerankCompressor(rank_fields=("title",), document_text=str)
    with pytest.raises(ValidationError, match="score_key='truncated'"):
        RerankCompressor(score_key="truncated", mark_truncated=True)


def test_a_path_is_a_model(tmp_path: Path) -> None:
    """A Path is taken as a string is, and serializes."""
    assert RerankCompressor(model=tmp_path) == RerankCompressor(model=str(tmp_path))
    assert read(dumpd(RerankCompressor(model=tmp_path, cache_folder=tmp_path))).cache_folder == str(tmp_path)


def test_the_options_reach_the_model() -> None:
    """max_length and precision of the field are those of the model that loads."""
    compressor = RerankCompressor(model="rerank-mini-en", max_length=64, precision="int8")
    compressor.compress_documents(documents(), QUERY)
    scorer: Any = compressor._reranker().scorer
    assert (scorer.encoder.max_length, scorer.engine.precision) == (64, "int8")


def test_one_model_serves_all_with_equal_settings() -> None:
    """Two compressors of equal options share one loaded model, whatever else they differ in; others have their own."""
    first = RerankCompressor(model="rerank-mini-en", top_n=1)._reranker()
    assert RerankCompressor(model="rerank-mini-en", top_n=2, score_threshold=0.1)._reranker() is first
    assert RerankCompressor(model="rerank-mini-en", max_length=100)._reranker() is not first


@pytest.mark.parametrize(
    "compressor",
    [
        RerankCompressor(),
        RerankCompressor(model="a/b", top_n=None, score_threshold=0.25, score_key="s", engine="torch", revision="v1"),
        RerankCompressor(calibration=Path("calibration.json")),
        RerankCompressor(rank_fields=("title", "year"), mark_truncated=True, local_files_only=True, device="cpu"),
    ],
)
def test_dumpd_and_load_round_trip(compressor: RerankCompressor) -> None:
    """What LangChain writes, it reads back as an equal compressor, through JSON as well."""
    assert read(dumpd(compressor)) == compressor
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls its own function beta
        assert (
            loads(dumps(compressor), valid_namespaces=["rerank_plugins"], allowed_objects=[RerankCompressor])
            == compressor
        )


def test_a_loaded_reranker_is_written_as_its_options() -> None:
    """Dumpd of a compressor around load_reranker(...) names the model and how it was loaded."""
    loaded = load_reranker("rerank-mini-en", max_length=128)
    again = read(dumpd(RerankCompressor(reranker=loaded, top_n=7)))
    assert again == RerankCompressor(model="rerank-mini-en", max_length=128, top_n=7)


@pytest.mark.parametrize("fields", [{"reranker": ByLength()}, {"document_text": str}])
def test_what_cannot_be_written_is_not_read_as_something_else(fields: dict[str, Any]) -> None:
    """With a scorer or a callable of one's own, loading refuses instead of giving the default."""
    with pytest.raises(NotImplementedError, match="RerankCompressor"):
        read(dumpd(RerankCompressor(**fields)))


def test_a_subclass_is_read_as_itself() -> None:
    """Dumpd of a subclass names the subclass's own module."""
    assert dumpd(Narrow())["id"] == [*Narrow.__module__.split("."), "Narrow"]


def test_pydantics_own_dump_keeps_the_model() -> None:
    """model_dump writes the options of a loaded reranker, and what validates to no other model of a bare scorer."""
    loaded = RerankCompressor(reranker=load_reranker("rerank-mini-en", max_length=128))
    assert RerankCompressor.model_validate(loaded.model_dump()).max_length == 128
    with pytest.raises(ValidationError, match="ByLength, which cannot be written down"):
        RerankCompressor.model_validate(RerankCompressor(reranker=ByLength()).model_dump())


def test_a_scorer_set_by_model_copy_is_used() -> None:
    """model_copy validates nothing, and the scorer it puts in still ranks."""
    changed = RerankCompressor(model="no/such-model").model_copy(update={"reranker": ByLength()})
    assert len(changed.compress_documents(documents(), QUERY)) == 3


@pytest.mark.parametrize("adapter", [RerankCompressor, RerankCrossEncoder])
def test_settings_have_a_json_schema(adapter: Any) -> None:
    """Tools that build forms or check configuration get one, with the loading options in it."""
    assert "precision" in adapter.model_json_schema()["properties"]


def test_a_pickle_holds_no_weights(box: Reranker) -> None:
    """By name or around a loaded reranker, used or not, a pickle is below 2 kB and ranks the same."""
    for compressor in (RerankCompressor(model="rerank-mini-en"), RerankCompressor(reranker=box)):
        expected = compressor.compress_documents(documents(), QUERY)
        data = pickle.dumps(compressor)
        assert len(data) < 2000
        again = pickle.loads(data)  # noqa: S301 - our own
        assert (again.reranker, again.model) == (None, "rerank-mini-en")  # nothing is loaded yet
        assert again.compress_documents(documents(), QUERY) == expected


def test_a_pickle_is_read_in_another_process(box: Reranker) -> None:
    """A process that only has the pickle ranks with the same model."""
    data = pickle.dumps(RerankCompressor(reranker=box, top_n=1))
    program = (
        "import pickle, sys; from langchain_core.documents import Document; "
        f"c = pickle.loads({data!r}); "
        "print(c.compress_documents([Document('apples'), Document('a phone of titanium')], 'phone')[0].page_content)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "a phone of titanium"


def test_pickles_of_one_model_share_it() -> None:
    """Two pickles of a loaded reranker, read in one process, load once."""
    loaded = load_reranker("rerank-mini-en", max_length=200)
    first, second = (pickle.loads(pickle.dumps(loaded)) for _ in range(2))  # noqa: S301 - our own
    assert isinstance(first, LoadedReranker)
    assert first is second
    assert first.loaded_from.max_length == 200


def test_a_deepcopy_shares_the_scorer(box: Reranker) -> None:
    """Copying a compressor copies its settings and not its model."""
    compressor = RerankCompressor(reranker=box, top_n=2)
    twin = copy.deepcopy(compressor)
    twin.top_n = 1
    assert twin._reranker() is box
    assert (compressor.top_n, len(twin.compress_documents(documents(), QUERY))) == (2, 1)


def test_a_bare_scorer_is_wrapped() -> None:
    """Anything with score(pairs) can be given, its numbers taken for logits; a Reranker says otherwise."""

    class Probabilities:
        def score(self, pairs: list[tuple[str, str]], /) -> list[float]:
            return [0.5 for _ in pairs]

    given = [Document("text")]
    (logit,) = RerankCompressor(reranker=Probabilities()).compress_documents(given, QUERY)
    (same,) = RerankCompressor(reranker=Reranker(Probabilities(), scale="probability")).compress_documents(given, QUERY)
    assert logit.metadata["relevance_score"] == pytest.approx(0.6225, abs=1e-4)
    assert same.metadata["relevance_score"] == 0.5


def test_a_model_that_does_not_exist_fails_at_first_use() -> None:
    """Building a chain looks for nothing; the first documents raise, with where it was looked."""
    compressor = RerankCompressor(model="no-such-model")
    with pytest.raises(FileNotFoundError, match="no-such-model"):
        compressor.compress_documents(documents(), QUERY)
