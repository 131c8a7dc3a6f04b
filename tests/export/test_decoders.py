"""int8 of decoders, whose activations may not bear 8 bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest

from family_models import QWEN3_TEMPLATE, write_decoder, write_language_model
from rerank_plugins import Pair, load_reranker
from rerank_plugins.export import Export, export_model
from rerank_plugins.export.quantization import WEIGHTS_ONLY


@pytest.fixture(scope="session")
def outlying(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder of Qwen3's shape with a channel a hundred times as large as the others, as trained ones have."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("outlying") / "model"
    write_language_model(folder, "qwen3", template=QWEN3_TEMPLATE)
    weights = load_file(folder / "model.safetensors")
    for name, weight in weights.items():
        if name.endswith("down_proj.weight"):
            weight[3] *= 100
    save_file({n: w.to(torch.float32) for n, w in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def export(outlying: Path) -> Export:
    return export_model(outlying, "int8", max_queries=8)


@pytest.mark.slow
def test_weights_alone_are_rounded_where_activations_do_not_bear_it(
    outlying: Path, export: Export, mixed_texts: list[Pair]
) -> None:
    """The report says which of the two was made, and the file holds int8 weights."""
    assert export.report["recipe"] == WEIGHTS_ONLY
    constants = [op for op in openvino.Core().read_model(export.file).get_ops() if op.get_type_name() == "Constant"]
    assert openvino.Type.i8 in {op.get_element_type() for op in constants}
    exact = np.array(load_reranker(outlying, engine="openvino", precision="fp32").score(mixed_texts))
    found = np.array(load_reranker(outlying, precision="int8").score(mixed_texts))
    assert np.corrcoef(found, exact)[0, 1] > 0.8  # 0.87 here: the channel is a hundred times as large as the others


@pytest.fixture
def mixed_texts() -> list[Pair]:
    words = ["bread", "is", "baked", "from", "flour", "water", "yeast", "and", "a", "little", "salt"]
    return [("what is bread baked from", " ".join(words[start:] + words[:start])) for start in range(len(words))]


@pytest.mark.slow
def test_an_export_of_a_known_reranker_loads_under_any_name(tmp_path: Path, mixed_texts: list[Pair]) -> None:
    """Its template goes with it, and so do instructions."""
    write_decoder(tmp_path / "Qwen3-Reranker-0.6B-seq-cls", "qwen3", template=None)
    options: dict[str, Any] = {"engine": "openvino", "precision": "fp32", "instruction": "Find bread"}
    expected = load_reranker(tmp_path / "Qwen3-Reranker-0.6B-seq-cls", **options).score(mixed_texts)
    export_model(tmp_path / "Qwen3-Reranker-0.6B-seq-cls", "fp32", output_folder=tmp_path / "mine", max_queries=4)
    shutil.rmtree(tmp_path / "Qwen3-Reranker-0.6B-seq-cls")
    assert load_reranker(tmp_path / "mine", **options).score(mixed_texts) == pytest.approx(expected, abs=1e-4)


@pytest.mark.slow
def test_an_export_holds_the_template_and_the_modules(tmp_path: Path, mixed_texts: list[Pair]) -> None:
    """What sentence-transformers wrote beside the weights is copied, sub-folders included."""
    write_language_model(tmp_path / "model", "qwen3", template=QWEN3_TEMPLATE)
    options: dict[str, Any] = {"engine": "openvino", "precision": "fp32"}
    expected = load_reranker(tmp_path / "model", **options).score(mixed_texts)
    export_model(tmp_path / "model", "fp32", output_folder=tmp_path / "mine", max_queries=4)
    assert load_reranker(tmp_path / "mine", **options).score(mixed_texts) == pytest.approx(expected, abs=1e-4)
