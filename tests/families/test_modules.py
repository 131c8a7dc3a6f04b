"""Chains of modules that sentence-transformers writes: a transformer, pooling, and layers, as Ettin rerankers have."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from families_reference import reference
from family_models import ENCODERS, write_encoder
from folder_hub import serving
from rerank_plugins import ModelLoadError, Pair, load_reranker
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

LoadScorer = Callable[[Path, str], CrossEncoderScorer]


def write_chain(folder: Path, family: str, pooling: str, *, residual: bool = False) -> None:
    """Transformer, Pooling, Dense, LayerNorm, Dense of one score, with random weights."""
    import torch
    from sentence_transformers import CrossEncoder
    from sentence_transformers.base.modules import Dense, Transformer
    from sentence_transformers.sentence_transformer.modules import LayerNorm, Pooling
    from transformers import AutoModel

    plain = folder.with_name(f"{folder.name}-plain")
    write_encoder(plain, family)
    body = AutoModel.from_pretrained(plain)
    body.save_pretrained(plain)
    torch.manual_seed(1)
    modules = [
        Transformer(str(plain)),
        Pooling(32, pooling_mode=pooling),
        Dense(32, 32, bias=not residual, activation_function=torch.nn.GELU(), use_residual=residual),
        LayerNorm(32),
        Dense(32, 1, activation_function=torch.nn.Identity(), module_output_name="scores"),
    ]
    for module in (modules[2], modules[4]):
        module.linear.weight.data.mul_(6)
    CrossEncoder(modules=modules, device="cpu").save_pretrained(str(folder))


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A chain of Ettin's shape."""
    folder = tmp_path_factory.mktemp("chain") / "model"
    write_chain(folder, "modernbert", "cls")
    return folder


@pytest.fixture
def fresh_chain(chain: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return shutil.copytree(chain, tmp_path / "model", ignore=shutil.ignore_patterns("openvino"))


def check(folder: Path, load_scorer: LoadScorer, pairs: list[Pair]) -> None:
    expected = reference(folder).predict(pairs, show_progress_bar=False)
    assert np.ptp(expected) > 1
    for engine in ("torch", "openvino"):
        np.testing.assert_allclose(
            load_scorer(folder, engine).score(pairs), expected, atol=1e-3 * np.ptp(expected), rtol=0
        )


def test_logits_are_those_of_sentence_transformers(
    chain: Path, load_scorer: LoadScorer, mixed_pairs: list[Pair]
) -> None:
    """On both engines, in batches of mixed lengths."""
    check(chain, load_scorer, mixed_pairs)


@pytest.mark.slow
@pytest.mark.parametrize("family", ["modernbert", "bert", "eurobert", "deberta-v3"])
@pytest.mark.parametrize("pooling", ["cls", "mean", "max", "lasttoken"])
def test_every_pooling_is_that_of_sentence_transformers(
    tmp_path: Path, load_scorer: LoadScorer, mixed_pairs: list[Pair], family: str, pooling: str
) -> None:
    """Behind bodies of several families, with token types and without; also with a residual."""
    assert family in ENCODERS
    write_chain(tmp_path / "model", family, pooling, residual=pooling == "mean")
    check(tmp_path / "model", load_scorer, mixed_pairs)


def test_the_hub_gives_the_weights_of_sub_folders(chain: Path, tmp_path: Path, load_scorer: LoadScorer) -> None:
    """With what says how the modules are put together; also where the repository has an IR beside them."""
    pairs = [("cat", "bread is baked"), ("what is bread", "the cat sat on the mat")]
    load_scorer(chain, "openvino")
    assert (chain / "openvino" / "openvino_model.xml").is_file()
    with serving(chain) as hub:
        printed = hub.score(tmp_path, pairs)
    assert printed.startswith("["), printed
    assert json.loads(printed) == pytest.approx(load_scorer(chain, "torch").score(pairs), abs=1e-3)
    assert {"2_Dense/model.safetensors", "3_LayerNorm/model.safetensors"} <= set(hub.fetched)


def test_a_chain_without_a_modules_weights_is_incomplete(fresh_chain: Path) -> None:
    """The file that is missing is named."""
    (fresh_chain / "2_Dense" / "model.safetensors").unlink()
    with pytest.raises(ModelLoadError, match=r"2_Dense/model\.safetensors missing"):
        load_reranker(fresh_chain)


def test_weights_that_do_not_fit_a_module_are_refused(fresh_chain: Path) -> None:
    """They are not filled up at random."""
    shutil.copyfile(fresh_chain / "3_LayerNorm" / "model.safetensors", fresh_chain / "2_Dense" / "model.safetensors")
    with pytest.raises(ModelLoadError, match=r"The module Dense in .*2_Dense cannot be loaded"):
        load_reranker(fresh_chain, engine="torch", device="cpu")


@pytest.mark.parametrize(
    ("file", "values", "said"),
    [
        (
            "1_Pooling/config.json",
            {"pooling_mode": "weightedmean"},
            "has Pooling of 'weightedmean', which is not known",
        ),
        ("2_Dense/config.json", {"activation_function": "mine.Swish"}, "has the activation mine.Swish"),
        ("2_Dense/config.json", {"module_input_name": "token_embeddings"}, "has Dense of each token"),
    ],
)
def test_a_module_that_is_not_known_is_refused(fresh_chain: Path, file: str, values: dict[str, Any], said: str) -> None:
    """It would be computed otherwise."""
    settings = json.loads((fresh_chain / file).read_text(encoding="utf-8"))
    (fresh_chain / file).write_text(json.dumps({**settings, **values}), encoding="utf-8")
    with pytest.raises(ModelLoadError, match=said):
        load_reranker(fresh_chain, engine="torch", device="cpu")


@pytest.mark.parametrize(("number", "said"), [(0, "begins with custom_st.Transformer"), (2, "has custom_st.Dense")])
def test_a_class_of_another_package_is_refused(fresh_chain: Path, number: int, said: str) -> None:
    """It has the name of one of sentence-transformers, and may compute something else."""
    modules = json.loads((fresh_chain / "modules.json").read_text(encoding="utf-8"))
    modules[number]["type"] = f"custom_st.{modules[number]['type'].rsplit('.', maxsplit=1)[-1]}"
    (fresh_chain / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelLoadError, match=said):
        load_reranker(fresh_chain, engine="torch", device="cpu")


def test_another_answer_is_converted_anew(tmp_path: Path) -> None:
    """A conversion belongs to the modules that it was made with, not to the transformer's weights alone."""
    from family_models import write_language_model

    write_language_model(tmp_path / "model", "qwen3")
    options = {"engine": "openvino", "precision": "fp32", "device": "cpu"}
    pair = [("cat", "bread")]
    (before,) = load_reranker(tmp_path / "model", **options).score(pair)
    path = tmp_path / "model" / "1_LogitScore" / "config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    swapped = {"true_token_id": settings["false_token_id"], "false_token_id": settings["true_token_id"]}
    path.write_text(json.dumps({**settings, **swapped}), encoding="utf-8")
    (after,) = load_reranker(tmp_path / "model", **options).score(pair)
    assert after == pytest.approx(-before, abs=1e-4)


def test_sub_folders_outside_of_the_model_are_not_read(fresh_chain: Path) -> None:
    """A path in modules.json stays within the folder."""
    modules = json.loads((fresh_chain / "modules.json").read_text(encoding="utf-8"))
    modules[1]["path"] = "../other"
    (fresh_chain / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises(ModelLoadError, match="outside of the model's"):
        load_reranker(fresh_chain)
