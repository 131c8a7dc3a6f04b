"""Models whose config.json names code beside the weights (auto_map), which is never run."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from folder_hub import link_into_cache, serving
from rerank_plugins import ModelLoadError, Pair, load_reranker
from rerank_plugins.backends import choose_engine, load_engine
from rerank_plugins.backends.load import fingerprint_model
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

LoadScorer = Callable[[Path, str], CrossEncoderScorer]

# JinaBERT's way: transformers knows the model type, and would build another model.
CODE = {"AutoConfig": "configuration_bert.JinaBertConfig", "AutoModel": "modeling_bert.JinaBertModel"}


def with_auto_map(folder: Path, auto_map: Any = CODE) -> Path:
    """``folder``, whose config.json names these classes from now on."""
    path = folder / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**config, "auto_map": auto_map}), encoding="utf-8")
    return folder


@pytest.fixture
def torch_only(fresh_bert: Path) -> Path:
    """Custom code, and torch weights only."""
    return with_auto_map(fresh_bert)


@pytest.fixture
def torch_and_onnx(onnx_folder: Path, bert_folder: Path) -> Path:
    """Custom code, torch weights, and the same as ONNX."""
    shutil.copyfile(bert_folder / "model.safetensors", onnx_folder / "model.safetensors")
    return with_auto_map(onnx_folder)


@pytest.fixture
def expected(load_scorer: LoadScorer, bert_folder: Path, pairs: list[Pair]) -> Any:
    """The logits of the stand-in, by torch."""
    return pytest.approx(load_scorer(bert_folder, "torch").score(pairs[:20]), abs=1e-3)


@pytest.mark.parametrize("options", [{}, {"engine": "torch"}, {"engine": "openvino"}, {"device": "cpu"}])
def test_torch_weights_that_need_custom_code_are_refused(torch_only: Path, options: dict[str, Any]) -> None:
    """Whatever engine is asked for; the error says why, and what to do."""
    with pytest.raises(
        ModelLoadError, match=r"AutoConfig, AutoModel from custom code \(auto_map\), which is never run"
    ):
        load_reranker(torch_only, **options)


def test_onnx_beside_them_is_taken(torch_and_onnx: Path, pairs: list[Pair], expected: Any) -> None:
    """And the choice of the engine says so."""
    choice = choose_engine(torch_and_onnx)
    assert choice.engine == "openvino"
    assert "custom code, which is never run" in choice.why
    assert load_reranker(torch_and_onnx, precision="fp32").scorer.score(pairs[:20]) == expected


def test_ir_beside_them_is_taken(fresh_ir: Path, bert_folder: Path, pairs: list[Pair], expected: Any) -> None:
    """As ONNX is."""
    (fresh_ir / "openvino" / "converted_from.json").unlink()
    shutil.copyfile(bert_folder / "model.safetensors", fresh_ir / "model.safetensors")
    assert load_reranker(with_auto_map(fresh_ir), precision="fp32").scorer.score(pairs[:20]) == expected


@pytest.mark.parametrize("options", [{"engine": "torch"}, {"device": "cuda"}])
def test_they_are_not_run_by_torch_beside_onnx(torch_and_onnx: Path, options: dict[str, Any]) -> None:
    """Where torch is asked for, or an accelerator, the error says that the CPU runs the ONNX file."""
    with pytest.raises(ModelLoadError, match=r"onnx/model\.onnx or .* can, on the CPU with engine='auto'"):
        load_engine(torch_and_onnx, **options)


@pytest.mark.parametrize("auto_map", [{"AutoTokenizer": ["tokenization.Own", None]}, {}])
def test_other_code_does_not_matter(fresh_bert: Path, auto_map: Any, pairs: list[Pair], expected: Any) -> None:
    """A tokenizer's class is not needed: tokenizer.json is read without it."""
    folder = with_auto_map(fresh_bert, auto_map)
    assert load_reranker(folder, engine="openvino", precision="fp32").scorer.score(pairs[:20]) == expected


def test_what_was_once_converted_without_the_code_is_not_used(fresh_bert: Path) -> None:
    """A conversion of such torch weights is of another model."""
    load_engine(fresh_bert, engine="openvino", precision="fp32")
    with pytest.raises(Exception, match=r"needs openvino/openvino_model\.xml, onnx/model\.onnx"):
        load_engine(with_auto_map(fresh_bert), engine="openvino", precision="fp32")


def test_cached_scores_are_of_the_onnx_file(torch_and_onnx: Path) -> None:
    """The torch weights beside it are nobody's."""
    engine = load_engine(torch_and_onnx, precision="fp32")
    before = fingerprint_model(torch_and_onnx, engine)
    (torch_and_onnx / "model.safetensors").write_bytes(b"others")
    assert fingerprint_model(torch_and_onnx, engine) == before


def test_the_hub_gives_its_onnx_file(torch_and_onnx: Path, tmp_path: Path, pairs: list[Pair], expected: Any) -> None:
    """With the extra torch installed as without, and no torch weights."""
    for home, blocked in ((tmp_path / "with", ()), (tmp_path / "without", ("torch",))):
        home.mkdir()
        with serving(torch_and_onnx) as hub:
            assert json.loads(hub.score(home, pairs[:20], blocked=blocked)) == expected
        assert "onnx/model.onnx" in hub.fetched
        assert "model.safetensors" not in hub.fetched


@pytest.mark.parametrize("blocked", [(), ("torch",)], ids=["with torch", "without torch"])
def test_the_hub_is_asked_for_no_weights_that_cannot_be_used(
    torch_only: Path, tmp_path: Path, blocked: tuple[str, ...]
) -> None:
    """The refusal comes after config.json was fetched, and nothing else."""
    (torch_only / "onnx").mkdir()
    (torch_only / "onnx" / "model_q4.onnx").touch()
    with serving(torch_only) as hub:
        printed = hub.score(tmp_path, [], blocked=blocked)
    assert printed.startswith(
        "ModelLoadError: OWNER/NAME on the hub: config.json takes AutoConfig, AutoModel from custom"
    )
    assert "There is onnx/model_q4.onnx" in printed
    assert hub.fetched == ["config.json"]


def test_a_download_of_torch_weights_only_gets_its_onnx_file(
    torch_and_onnx: Path, tmp_path: Path, pairs: list[Pair], expected: Any
) -> None:
    """What another library put into the cache is no complete model here."""
    link_into_cache(torch_and_onnx, tmp_path / "hub", "onnx/model.onnx")
    with serving(torch_and_onnx) as hub:
        assert json.loads(hub.score(tmp_path, pairs[:20])) == expected


def test_what_needs_custom_code_is_not_trained(torch_and_onnx: Path) -> None:
    """With the class that transformers has it would be another model."""
    from rerank_plugins.training.base_model import find_base_folder

    with pytest.raises(ModelLoadError, match=r"custom code \(auto_map in its config.json\).* Give a base"):
        find_base_folder(torch_and_onnx)
