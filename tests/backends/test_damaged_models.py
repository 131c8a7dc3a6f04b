from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import (
    ModelLoadError,
    load_reranker,
)
from stand_in_models import write_bert


def edit_config(folder: Path, **values: object) -> None:
    """Set values in config.json; None removes one."""
    path = folder / "config.json"
    config = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({name: value for name, value in config.items() if value is not None}), encoding="utf-8")


def truncate(file: Path, size: int) -> None:
    """Keep the first bytes of a file; a negative size drops that many at the end."""
    file.write_bytes(file.read_bytes()[:size])


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("size", [0, 10, 5000, -100])
def test_truncated_safetensors_are_an_error(fresh_bert: Path, engine: Any, size: int) -> None:
    """Torch weights that end early are an error that says to download them again."""
    truncate(fresh_bert / "model.safetensors", size)
    with pytest.raises(ModelLoadError, match=r"cannot be loaded.*download the model again"):
        load_reranker(fresh_bert, engine=engine, precision="fp32", device="cpu")


@pytest.mark.parametrize("suffix", [".bin", ".xml"])
@pytest.mark.parametrize("size", [0, 10, 5000, -100])
def test_truncated_openvino_files_are_an_error(fresh_ir: Path, suffix: str, size: int) -> None:
    """OpenVINO files that end early are an error that says which file, and what to do."""
    truncate(fresh_ir / "openvino" / f"openvino_model{suffix}", size)
    with pytest.raises(ModelLoadError, match=r"cannot read .*openvino_model\.xml.*again"):
        load_reranker(fresh_ir, precision="fp32")


def test_openvino_weights_that_are_not_there_are_an_error(fresh_ir: Path) -> None:
    """An .xml without its .bin is an error that speaks of the .bin."""
    (fresh_ir / "openvino" / "openvino_model.bin").unlink()
    with pytest.raises(ModelLoadError, match=r"openvino_model\.bin missing"):
        load_reranker(fresh_ir, precision="fp32")


@pytest.mark.parametrize("content", [b"", b"{", b"\0", b"\xff\xfe{", b"[]", b"null", b'"text"'])
def test_a_damaged_config_is_an_error(fresh_bert: Path, content: bytes) -> None:
    """A config.json that is no JSON object is an error that names the file."""
    (fresh_bert / "config.json").write_bytes(content)
    with pytest.raises(ModelLoadError, match=r"config\.json.*Download the model again"):
        load_reranker(fresh_bert)


@pytest.mark.parametrize("values", [{"id2label": 3}, {"id2label": {}, "num_labels": "one"}])
def test_a_config_of_wrong_types_is_an_error(fresh_bert: Path, values: dict[str, object]) -> None:
    """A config.json whose values are of no use is an error of this package."""
    edit_config(fresh_bert, **values)
    with pytest.raises(ModelLoadError):
        load_reranker(fresh_bert)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": "1.0"}'])
def test_a_damaged_tokenizer_is_an_error(fresh_bert: Path, content: str) -> None:
    """A tokenizer.json that cannot be read is an error that names the file."""
    (fresh_bert / "tokenizer.json").write_text(content)
    with pytest.raises(ModelLoadError, match=r"tokenizer\.json cannot be read.*Download the model again"):
        load_reranker(fresh_bert)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_model_of_two_labels_is_an_error(fresh_bert: Path, engine: Any) -> None:
    """A classifier that gives two numbers a pair is no reranker, and the error says so at loading."""
    edit_config(fresh_bert, id2label={"0": "no", "1": "yes"}, label2id={"no": 0, "yes": 1})
    with pytest.raises(ModelLoadError, match="2 labels a pair, expected 1"):
        load_reranker(fresh_bert, engine=engine, device="cpu")


@pytest.fixture
def unsaid_labels(tmp_path: Path) -> Path:
    """A classifier of two labels as transformers saves it: two is its default, so config.json does not say."""
    write_bert(tmp_path, num_labels=2)
    edit_config(tmp_path, id2label=None, label2id=None)
    return tmp_path


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_two_labels_that_config_leaves_out_are_an_error(unsaid_labels: Path, engine: Any) -> None:
    """So it is where config.json leaves the two labels out."""
    with pytest.raises(ModelLoadError, match="label"):
        load_reranker(unsaid_labels, engine=engine, precision="fp32", device="cpu")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_weights_that_do_not_fit_the_config_are_an_error(fresh_bert: Path, engine: Any) -> None:
    """Weights of other sizes than config.json says are a damaged model, not a wrong option."""
    edit_config(fresh_bert, hidden_size=64)
    with pytest.raises(ModelLoadError):
        load_reranker(fresh_bert, engine=engine, precision="fp32", device="cpu")


def edit_weights(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_an_encoder_without_a_head_is_an_error(fresh_bert: Path, engine: Any) -> None:
    """A plain encoder or embedder has no ranking head: it must not rank at random."""
    edit_weights(fresh_bert, lambda weights: {n: w for n, w in weights.items() if not n.startswith("classifier")})
    with pytest.raises(ModelLoadError):
        load_reranker(fresh_bert, engine=engine, precision="fp32", device="cpu")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(
    ("lost", "said"),
    [
        ("bert.encoder.layer.1.output.dense", r"2 weights \(bert.encoder.layer.1.output.dense.bias"),
        ("bert.encoder.layer.0", r"16 weights \(bert.encoder.layer.0.* and 13 more\) missing"),
        ("bert.embeddings.word_embeddings", r"1 weights \(bert.embeddings.word_embeddings.weight\) missing"),
        ("bert.pooler", r"no ranking head \(bert.pooler.dense.bias"),
    ],
)
def test_weights_that_are_not_there_are_an_error(fresh_bert: Path, engine: Any, lost: str, said: str) -> None:
    """What transformers would make up by a random draw is named, wherever in the model it is; nothing is converted."""
    edit_weights(fresh_bert, lambda weights: {n: w for n, w in weights.items() if not n.startswith(lost)})
    with pytest.raises(ModelLoadError, match=said):
        load_reranker(fresh_bert, engine=engine, precision="fp32", device="cpu")
    assert not (fresh_bert / "openvino").exists()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize(
    "name",
    [
        "bert.encoder.layer.2.output.dense.weight",  # config.json names two layers
        "bert.encoder.layer.0.mlp.gated_layers.weight",  # JinaBERT's
        "bert.encoder.layer.1.attention.self.query.lora_A.weight",
        "bert.embeddings.rotary.weight",
    ],
)
def test_weights_of_another_architecture_are_an_error(fresh_bert: Path, engine: Any, name: str) -> None:
    """Weights of layers or embeddings that the model named in config.json has no use for mean another model."""
    edit_weights(fresh_bert, lambda weights: {**weights, name: weights["bert.pooler.dense.weight"].clone()})
    with pytest.raises(ModelLoadError, match=rf"1 weights \({name}\) not used"):
        load_reranker(fresh_bert, engine=engine, precision="fp32", device="cpu")


@pytest.mark.parametrize("name", ["cls.predictions.transform.dense.weight", "bert.embeddings.position_ids"])
def test_weights_that_compute_no_score_do_no_harm(fresh_bert: Path, name: str) -> None:
    """A head of another task, or what was not learned, may lie in the file."""
    edit_weights(fresh_bert, lambda weights: {**weights, name: weights["bert.pooler.dense.weight"].clone()})
    assert len(load_reranker(fresh_bert, engine="torch", device="cpu").score([("cat", "a cat")])) == 1


def test_the_bundled_embedder_is_refused_as_a_reranker() -> None:
    """An embedder's name says that it is none, rather than ranking with random numbers."""
    with pytest.raises(ModelLoadError, match="expected a sequence classifier"):
        load_reranker("embed-static-en")
