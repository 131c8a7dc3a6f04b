"""The padding token's id and the longest input, by config.json or by the tokenizer's files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from rerank_plugins import InvalidInputError, ModelLoadError, Pair, load_reranker
from rerank_plugins.hub.config import find_pad_token_id, is_decoder, read_max_input_length
from stand_in_models import write_bert, write_model

# What some types need beside the shape of every stand-in.
TYPES: dict[str, dict[str, Any]] = {
    "bert": {},
    "roberta": {},
    "distilbert": {},
    "mpnet": {},
    "modernbert": {"bos_token_id": 2, "cls_token_id": 2, "eos_token_id": 3, "sep_token_id": 3},
    "llama": {"num_key_value_heads": 2},
}


def edit(path: Path, **values: Any) -> None:
    """Set values of a JSON file; ``...`` takes one away."""
    content = {**json.loads(path.read_text(encoding="utf-8")), **values}
    path.write_text(json.dumps({name: value for name, value in content.items() if value is not ...}), encoding="utf-8")


def write(folder: Path, kind: str) -> int:
    """A stand-in of that model type with BERT's tokenizer; returns how large the vocabulary is."""
    folder.mkdir()
    write_bert(folder)
    if kind == "llama":
        template = "{% for m in messages %}{{ '[CLS] ' if m.role == 'query' }}{{ m.content }} [SEP] {% endfor %}"
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    size = Tokenizer.from_file(str(folder / "tokenizer.json")).get_vocab_size()
    positions = {"max_position_embeddings": 512, "num_hidden_layers": 2}
    write_model(folder, kind, head=3, vocab_size=size, pad_token_id=1, **{**positions, **TYPES[kind]})
    return size


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("pad", [0, 5, -1])
def test_any_id_of_the_vocabulary_pads(tmp_path: Path, pairs: list[Pair], kind: str, pad: int) -> None:
    """Logits of both engines are those of sentence-transformers; a negative id counts from the vocabulary's end."""
    import torch
    from sentence_transformers import CrossEncoder

    size = write(tmp_path / "model", kind)
    edit(tmp_path / "model" / "config.json", pad_token_id=pad % size)
    reference = CrossEncoder(str(tmp_path / "model"), device="cpu", local_files_only=True)
    # One at a time: it pads with the tokenizer's id, which a decoder with another one takes for text.
    expected = reference.predict(pairs[:20], batch_size=1, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    for engine in ("torch", "openvino"):
        reranker = load_reranker(tmp_path / "model", engine=engine, precision="fp32", device="cpu")
        assert reranker.scorer.score(pairs[:20]) == pytest.approx(expected.tolist(), abs=1e-3)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("given", [None, ...])
def test_a_config_without_an_id_loads(
    bert_folder: Path, fresh_bert: Path, pairs: list[Pair], engine: Any, given: Any
) -> None:
    """Null or left out, the scores are the same."""
    edit(fresh_bert / "config.json", pad_token_id=given)
    expected, found = (
        load_reranker(folder, engine=engine, precision="fp32", device="cpu").scorer.score(pairs[:20])
        for folder in (bert_folder, fresh_bert)
    )
    assert found == pytest.approx(expected, abs=1e-4)


def test_the_tokenizers_files_say_what_the_config_does_not(fresh_bert: Path) -> None:
    """Its own files in their order, then the usual names; last the model type's own id."""
    tokenizer = Tokenizer.from_file(str(fresh_bert / "tokenizer.json"))
    edit(fresh_bert / "config.json", pad_token_id=None)
    named = {"content": "[MASK]", "special": True}
    edit(fresh_bert / "tokenizer_config.json", pad_token=named)
    (fresh_bert / "special_tokens_map.json").write_text('{"pad_token": "[SEP]"}', encoding="utf-8")
    tokenizer.enable_padding(pad_id=7)
    tokenizer.save(str(fresh_bert / "tokenizer.json"))
    assert find_pad_token_id(fresh_bert) == tokenizer.token_to_id("[MASK]")
    edit(fresh_bert / "tokenizer_config.json", pad_token=...)
    assert find_pad_token_id(fresh_bert) == tokenizer.token_to_id("[SEP]")
    (fresh_bert / "special_tokens_map.json").unlink()
    assert find_pad_token_id(fresh_bert) == 7
    tokenizer.no_padding()
    tokenizer.add_special_tokens(["<pad>"])
    tokenizer.save(str(fresh_bert / "tokenizer.json"))
    edit(fresh_bert / "config.json", vocab_size=tokenizer.get_vocab_size())
    assert find_pad_token_id(fresh_bert) == tokenizer.token_to_id("[PAD]")
    path = fresh_bert / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8").replace("[PAD]", "[OTHER]"), encoding="utf-8")
    assert find_pad_token_id(fresh_bert) == tokenizer.token_to_id("<pad>")
    path.write_text(path.read_text(encoding="utf-8").replace("<pad>", "<other>"), encoding="utf-8")
    assert find_pad_token_id(fresh_bert) == 0


@pytest.mark.parametrize("engine", ["torch", "openvino"])
@pytest.mark.parametrize("given", [-1, 100_000, True, "0", 1.0])
def test_an_id_that_no_vocabulary_has_is_an_error(fresh_bert: Path, given: Any, engine: Any) -> None:
    """It says what was found and what it has to be."""
    edit(fresh_bert / "config.json", pad_token_id=given)
    with pytest.raises(ModelLoadError, match=f"pad_token_id in its config.json is {given!r}, expected a whole number"):
        load_reranker(fresh_bert, engine=engine, device="cpu")


def test_a_tokenizers_id_outside_the_models_vocabulary_is_an_error(fresh_bert: Path) -> None:
    """A padding token that was added to the tokenizer alone."""
    tokenizer = Tokenizer.from_file(str(fresh_bert / "tokenizer.json"))
    tokenizer.add_special_tokens(["<fill>"])
    tokenizer.save(str(fresh_bert / "tokenizer.json"))
    edit(fresh_bert / "tokenizer_config.json", pad_token="<fill>")  # noqa: S106 - no password
    edit(fresh_bert / "config.json", pad_token_id=None)
    with pytest.raises(ModelLoadError, match="its tokenizer's padding token is"):
        load_reranker(fresh_bert)


def test_positions_that_begin_behind_the_id_must_leave_some(tmp_path: Path) -> None:
    """RoBERTa counts positions from its padding id on: near the end of a large vocabulary none is left."""
    write(tmp_path / "model", "roberta")
    edit(tmp_path / "model" / "config.json", pad_token_id=511, vocab_size=1000)
    with pytest.raises(InvalidInputError, match=r"max_length must leave room .* got 0"):
        load_reranker(tmp_path / "model")


def test_mpnet_counts_positions_from_an_id_of_its_own(tmp_path: Path) -> None:
    """Its padding id does not change how much it reads."""
    size = write(tmp_path / "model", "mpnet")
    edit(tmp_path / "model" / "config.json", pad_token_id=size - 1)
    assert read_max_input_length(tmp_path / "model") == 510


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_type_that_needs_an_id_says_so_when_it_is_loaded(tmp_path: Path, engine: Any) -> None:
    """As sentence-transformers cannot compute it either; the error gives the id to set."""
    write(tmp_path / "model", "roberta")
    edit(tmp_path / "model" / "config.json", pad_token_id=None)
    with pytest.raises(ModelLoadError, match="gives no pad_token_id, which some model types need: set it to 0"):
        load_reranker(tmp_path / "model", engine=engine, device="cpu")


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_decoder_without_an_id_scores_batches(tmp_path: Path, pairs: list[Pair], engine: Any) -> None:
    """Its last token is found by the attention mask; transformers gives such a model one row at a time."""
    import torch
    from sentence_transformers import CrossEncoder

    write(tmp_path / "model", "llama")
    edit(tmp_path / "model" / "config.json", pad_token_id=None)
    reference = CrossEncoder(str(tmp_path / "model"), device="cpu", local_files_only=True)
    expected = reference.predict(pairs[:20], batch_size=1, activation_fn=torch.nn.Identity(), show_progress_bar=False)
    reranker = load_reranker(tmp_path / "model", engine=engine, precision="fp32", device="cpu")
    assert reranker.scorer.score(pairs[:20]) == pytest.approx(expected.tolist(), abs=1e-3)


# Models that read a text in both directions, and have a causal variant that classifies nothing.
ENCODERS = {
    *("bart", "bert", "big_bird", "bigbird_pegasus", "camembert", "data2vec-text", "electra", "ernie", "mbart"),
    *("megatron-bert", "mvp", "plbart", "reformer", "rembert", "roberta", "roberta-prelayernorm", "roc_bert"),
    *("roformer", "xlm", "xlm-roberta", "xlm-roberta-xl", "xlnet", "xmod"),
}


def test_every_decoder_that_transformers_can_classify_with_is_known() -> None:
    """By its model type: its classifier would read bare texts otherwise. A new type has to be put in one of the two."""
    from transformers.models.auto import modeling_auto

    classifiers = modeling_auto.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES
    both = set(classifiers) & set(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    assert len(both) > 60
    assert {name for name in both if not is_decoder({"model_type": name})} == ENCODERS & both
