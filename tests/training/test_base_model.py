"""What can be trained, and what is said of what cannot."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from rerank_plugins import ModelLoadError, load_reranker
from rerank_plugins.training.base_model import find_base_folder, load_base_model
from stand_in_models import write_bert


@pytest.fixture
def encoder_folder(base: Path, tmp_path: Path) -> Path:
    """The base without its ranking head: a plain encoder."""
    from transformers import AutoModel

    folder = shutil.copytree(base, tmp_path / "encoder", ignore=shutil.ignore_patterns("openvino", "*.safetensors"))
    AutoModel.from_pretrained(base).save_pretrained(folder)
    return folder


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_the_bundled_model_has_nothing_to_train() -> None:
    """It has no torch weights; the message names models that have."""
    with pytest.raises(
        ModelLoadError, match=r"rerank-mini-en has no torch weights to train .*Give a cross-encoder with"
    ):
        find_base_folder("rerank-mini-en")


def test_several_labels_are_refused(tmp_path: Path) -> None:
    """A classifier of three kinds gives no one score."""
    write_bert(tmp_path, num_labels=3)
    with pytest.raises(ModelLoadError, match="gives 3 labels a pair, expected 1"):
        find_base_folder(tmp_path)


def test_a_decoder_is_refused(base: Path, tmp_path: Path) -> None:
    """A decoder is no encoder."""
    folder = shutil.copytree(base, tmp_path / "decoder")
    edit_config(folder, architectures=["LlamaForCausalLM"])
    with pytest.raises(ModelLoadError, match=r"is a LlamaForCausalLM, a decoder. Expected an encoder"):
        find_base_folder(folder)


def test_damaged_weights_are_a_load_error(base: Path, tmp_path: Path) -> None:
    """With transformers' own words."""
    folder = shutil.copytree(base, tmp_path / "damaged")
    (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelLoadError, match="cannot be loaded"):
        load_base_model("damaged", folder, max_length=64, seed=0)


def test_an_encoder_gets_a_head_by_the_seed(encoder_folder: Path) -> None:
    """It is called new; its weights are the seed's, and the encoder's stay what they were."""
    first, again, other = (
        load_base_model("encoder", find_base_folder(encoder_folder), max_length=64, seed=seed) for seed in (0, 0, 1)
    )
    assert first.new_head
    heads = [model.encoder.model.classifier.weight for model in (first, again, other)]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    bodies = [model.encoder.model.bert.embeddings.word_embeddings.weight for model in (first, other)]
    assert torch.equal(*bodies)


def test_a_cross_encoder_keeps_its_head(base: Path) -> None:
    """It is not called new, and orders as it did."""
    model = load_base_model("base", find_base_folder(base), max_length=64, seed=0)
    assert not model.new_head
    pair = ("what is baked", "bread is baked from flour")
    (found,) = model.encoder.predict([pair], activation_fn=torch.nn.Identity()).tolist()
    with load_reranker(base, engine="torch", precision="fp32", device="cpu") as reranker:
        assert reranker.score([pair]) == [pytest.approx(found, abs=1e-5)]


def test_a_saved_base_is_a_whole_model_folder(base: Path, encoder_folder: Path, tmp_path: Path) -> None:
    """Configuration, tokenizer byte for byte, weights: what was headless loads as a cross-encoder."""
    model = load_base_model("encoder", encoder_folder, max_length=64, seed=0)
    model.save(tmp_path / "saved")
    assert (tmp_path / "saved" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    with load_reranker(tmp_path / "saved", engine="torch") as reranker:
        assert len(reranker.rerank("cat", ["the cat", "flour"])) == 2
