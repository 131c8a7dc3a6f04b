"""A model is in memory once, and no longer than something uses it; and it is padded only if it ignores padding."""

from __future__ import annotations

import gc
import os
import shutil
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.runnables import ConfigurableField
from tokenizers import Tokenizer

from rerank_plugins import Pair, load_reranker
from rerank_plugins.langchain import RerankCompressor
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.loading import SHARED_RERANKERS
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_model

DOCUMENTS = [Document(page_content=text) for text in ("a cat", "the cat sat on the mat", "bread")]


@pytest.fixture
def model(bert_openvino: CrossEncoderScorer, bert_folder: Path, tmp_path: Path) -> str:
    """A folder that no other test has loaded from."""
    del bert_openvino  # it has converted the weights
    return str(shutil.copytree(bert_folder, tmp_path / "model"))


def scorer_of(adapter: Any) -> CrossEncoderScorer:
    scorer = adapter._reranker().scorer
    assert isinstance(scorer, CrossEncoderScorer)
    return scorer


@pytest.mark.parametrize(
    "setting",
    [
        {"max_length": 64},
        {"max_query_share": 0.25},
        {"long_documents": "windows"},
        {"max_queued_pairs": 7},
        {"local_files_only": True},
        {"score_cache": 10},
        {"engine": "openvino"},
        {"precision": "fp32", "device": "cpu"},
    ],
)
def test_settings_of_a_call_load_no_second_model(model: str, setting: dict[str, Any]) -> None:
    """Adapters of both frameworks that differ in other things than the weights have one engine and one tokenizer."""
    first = scorer_of(RerankCompressor(model=model, precision="fp32"))
    second = scorer_of(RerankPostprocessor(model=model, **{"precision": "fp32", **setting}))
    assert second.engine is first.engine
    assert second.encoder._tokenizer is first.encoder._tokenizer


def test_other_arithmetic_or_other_threads_are_another_engine(model: str) -> None:
    """Weights are shared by files, engine, precision, device and threads."""
    loaded = [
        load_reranker(model, engine="openvino", precision="fp32", threads=1),
        load_reranker(model, engine="openvino", precision="fp32", threads=2),
        load_reranker(model, engine="torch", precision="fp32", device="cpu"),
    ]
    assert len({id(reranker.scorer.engine) for reranker in loaded}) == 3  # type: ignore[attr-defined]


def test_a_model_whose_files_changed_is_loaded_anew(model: str) -> None:
    """What is in memory is of the files that were there."""
    before = load_reranker(model, precision="fp32")
    file = Path(model) / "model.safetensors"
    os.utime(file, ns=(file.stat().st_atime_ns, file.stat().st_mtime_ns + 1))
    after = load_reranker(model, precision="fp32")
    assert before.scorer.engine is not after.scorer.engine  # type: ignore[attr-defined]


def test_settings_of_every_request_do_not_pile_up(model: str) -> None:
    """A configurable field with thirty values leaves one engine and a bounded number of threads."""
    compressor = RerankCompressor(model=model, precision="fp32").configurable_fields(
        max_length=ConfigurableField(id="max_length")
    )
    compressor.invoke({"documents": DOCUMENTS, "query": "cat"})
    engine = scorer_of(RerankCompressor(model=model, precision="fp32")).engine
    gc.collect()
    before = threading.active_count()
    for length in range(32, 62):
        found = compressor.invoke({"documents": DOCUMENTS, "query": "cat"}, {"configurable": {"max_length": length}})
        assert len(found) == 3
    assert scorer_of(RerankCompressor(model=model, precision="fp32", max_length=61)).engine is engine
    gc.collect()
    assert threading.active_count() <= before + SHARED_RERANKERS


def test_a_model_that_nothing_uses_is_freed(model: str) -> None:
    """An adapter that was closed keeps no weights, and loads them again when it is called."""
    compressor = RerankCompressor(model=model, precision="fp32")
    engine = weakref.ref(scorer_of(compressor).engine)
    compressor.close()
    gc.collect()
    assert engine() is None
    assert len(compressor.compress_documents(DOCUMENTS, "cat")) == 3


def test_closing_an_adapter_ends_no_call_of_another(model: str) -> None:
    """Equal adapters go on, whatever is closed meanwhile; so does a reranker that was given."""
    given = load_reranker(model, precision="fp32")
    adapters = [RerankCompressor(model=model, precision="fp32"), RerankCompressor(reranker=given)]

    def call(number: int) -> int:
        adapter = adapters[number % 2]
        if number % 5 == 0:
            adapter.close()
        return len(adapter.compress_documents(DOCUMENTS, f"cat {number}"))

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(call, range(60))) == {3}


@pytest.mark.parametrize(
    ("architecture", "engine"),
    [
        ("convbert", "torch"),
        ("convbert", "openvino"),
        ("nystromformer", "torch"),
        ("nystromformer", "openvino"),
        ("fnet", "torch"),  # has no attention mask at all, without which OpenVINO's engine refuses it
        ("bert", "torch"),
    ],
)
def test_models_that_read_padding_get_none(
    bert_folder: Path, tmp_path: Path, pairs: list[Pair], engine: Any, architecture: str
) -> None:
    """Pairs of many lengths score as sentence-transformers scores each alone, whether masks are heeded or not."""
    folder = shutil.copytree(
        bert_folder, tmp_path / "model", ignore=shutil.ignore_patterns("openvino", "*.safetensors")
    )
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    write_model(folder, architecture, head=3, vocab_size=size, max_position_embeddings=256)
    import torch
    from sentence_transformers import CrossEncoder

    reference = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    expected = [reference.predict([pair], activation_fn=torch.nn.Identity())[0] for pair in pairs[:30]]
    found = load_reranker(folder, engine=engine, precision="fp32", device="cpu").score(pairs[:30])
    assert found == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("model", ["rerank-mini-en", "bert"])
def test_models_that_heed_their_masks_are_padded(bert_folder: Path, model: str) -> None:
    """Rows of different lengths share their batches, which is faster."""
    reranker = load_reranker(bert_folder if model == "bert" else model, engine="openvino")
    reranker.score([("a cat", "sat " * count) for count in range(20, 40)])
    assert reranker.stats().batches < 6
