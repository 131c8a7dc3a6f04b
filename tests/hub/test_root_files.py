"""IR and ONNX in the root of a model folder, as optimum writes them; and graphs of other names."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import pytest
from openvino.passes import ConstantFolding, Manager

from folder_hub import link_into_cache, serving
from rerank_plugins import ModelLoadError, Pair, load_reranker
from rerank_plugins.backends import choose_engine, load_engine
from rerank_plugins.cli.models import list_models
from rerank_plugins.export import export_model
from rerank_plugins.export.quantization import import_nncf
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from stand_in_models import write_bert

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


def to_root(folder: Path) -> Path:
    """Move what ``openvino/`` and ``onnx/`` hold into ``folder`` itself."""
    for place in (folder / "openvino", folder / "onnx"):
        for file in place.iterdir() if place.is_dir() else ():
            file.rename(folder / file.name)
        shutil.rmtree(place, ignore_errors=True)
    (folder / "converted_from.json").unlink(missing_ok=True)
    return folder


@pytest.fixture(params=["ir", "onnx"])
def root_folder(request: pytest.FixtureRequest) -> Path:
    """The BERT stand-in in the root, as IR or as ONNX with external weights, beside a tokenizer's IR."""
    folder: Path = request.getfixturevalue("fresh_ir" if request.param == "ir" else "onnx_folder")
    if request.param == "onnx":
        path = folder / "onnx" / "model.onnx"
        onnx.save(onnx.load(path), path, save_as_external_data=True, location="model.onnx_data", size_threshold=0)
    for name in ("openvino_tokenizer.xml", "openvino_tokenizer.bin"):
        (folder / name).write_text("no graph of a model", encoding="utf-8")
    return to_root(folder)


@pytest.fixture
def expected(load_scorer: LoadScorer, bert_folder: Path, pairs: list[Pair]) -> Any:
    """The logits of the stand-in, by torch."""
    return pytest.approx(load_scorer(bert_folder, "torch").score(pairs[:20]), abs=1e-3)


def test_files_in_the_root_are_loaded(root_folder: Path, pairs: list[Pair], expected: Any) -> None:
    """With the logits they have in their subfolder."""
    scorer = load_reranker(root_folder, precision="fp32").scorer
    assert scorer.score(pairs[:20]) == expected


def test_files_in_the_root_are_downloaded(root_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any) -> None:
    """And not what else lies there."""
    (root_folder / "openvino_tokenizer.json").write_text("{}", encoding="utf-8")
    with serving(root_folder) as hub:
        assert json.loads(hub.score(tmp_path, pairs[:20])) == expected
    assert {Path(name).suffix for name in hub.fetched} <= {".json", ".xml", ".bin", ".onnx", ".onnx_data"}
    assert not {"openvino_tokenizer.xml", "openvino_tokenizer.bin"} & set(hub.fetched)


def test_files_in_the_root_are_found_in_the_hubs_cache(
    root_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any
) -> None:
    """As links."""
    assert (
        load_reranker(link_into_cache(root_folder, tmp_path / "hub"), precision="fp32").scorer.score(pairs[:20])
        == expected
    )


def test_a_model_in_the_root_is_listed(fresh_ir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By `rerank-plugins models`."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(to_root(fresh_ir), tmp_path / "models" / "mine")
    assert "mine" in {name for name, _, _ in list_models()}


def test_int8_in_the_root_is_loaded(fresh_ir: Path) -> None:
    """Under its own name it is computed in int8."""
    for suffix in (".xml", ".bin"):
        file = fresh_ir / "openvino" / f"openvino_model{suffix}"
        file.rename(file.with_name(f"openvino_model_qint8_quantized{suffix}"))
    assert choose_engine(to_root(fresh_ir)).precision == "int8"
    assert load_engine(fresh_ir).precision == "int8"


def test_a_subfolder_goes_before_the_root(fresh_ir: Path, pairs: list[Pair], expected: Any) -> None:
    """Where both hold a graph, that of the subfolder is meant; here the other one is damaged."""
    for suffix in (".xml", ".bin"):
        (fresh_ir / f"openvino_model{suffix}").write_text("damaged", encoding="utf-8")
    assert load_reranker(fresh_ir, precision="fp32").scorer.score(pairs[:20]) == expected


def test_int8_weights_under_the_plain_name_are_computed_in_fp32(tmp_path: Path) -> None:
    """OpenVINO would round activations to int8 beside them; fp32 gives what the unpacked weights give."""
    folder = tmp_path / "model"
    folder.mkdir()
    write_bert(folder, hidden_size=256, intermediate_size=1024, num_attention_heads=4, initializer_range=0.08)
    load_engine(folder, engine="openvino", precision="fp32")
    (folder / "model.safetensors").unlink()
    to_root(folder)
    path = folder / "openvino_model.xml"
    openvino.save_model(openvino.Core().read_model(path), tmp_path / "full.xml", compress_to_fp16=False)
    compressed = import_nncf().compress_weights(openvino.Core().read_model(tmp_path / "full.xml"))
    openvino.save_model(compressed, path, compress_to_fp16=False)

    unpacked = openvino.Core().read_model(path)
    passes = Manager()
    passes.register_pass(ConstantFolding())
    passes.run_passes(unpacked)
    exact = openvino.Core().compile_model(unpacked, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    ids = np.random.default_rng(0).integers(5, 90, (16, 64))
    feed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}

    engine = load_engine(folder, precision="fp32")
    assert engine.precision == "fp32"
    np.testing.assert_allclose(engine.logits(*feed.values()), exact(feed)[0].ravel(), atol=1e-3)


def test_an_export_starts_from_the_root(root_folder: Path, tmp_path: Path, pairs: list[Pair], expected: Any) -> None:
    """It goes into ``openvino/`` of a folder of its own."""
    made = export_model(root_folder, "fp32", output_folder=tmp_path / "made", max_queries=10)
    assert made.file == tmp_path / "made" / "openvino" / "openvino_model.xml"
    assert load_reranker(made.folder, precision="fp32").scorer.score(pairs[:20]) == expected


@pytest.mark.parametrize("name", ["onnx/model_O4.onnx", "model_qint8.onnx", "openvino/openvino_model_u8.xml"])
def test_graphs_of_other_names_are_named_and_not_taken(onnx_folder: Path, name: str) -> None:
    """The error says that they are there, and how to use one all the same."""
    (onnx_folder / name).parent.mkdir(exist_ok=True)
    (onnx_folder / "onnx" / "model.onnx").rename(onnx_folder / name)
    with pytest.raises(ModelLoadError, match=f"There is {name}:.* copy it to onnx/model.onnx"):
        load_reranker(onnx_folder)


def test_graphs_of_other_names_on_the_hub_are_named_and_not_taken(onnx_folder: Path, tmp_path: Path) -> None:
    """The error says the same as for a folder."""
    name = "onnx/model_O4.onnx"
    (onnx_folder / "onnx" / "model.onnx").rename(onnx_folder / name)
    with serving(onnx_folder) as hub:
        printed = hub.score(tmp_path, [])
    assert printed.startswith("ModelLoadError: OWNER/NAME on the hub")
    assert f"There is {name}:" in printed
    assert name not in hub.fetched
