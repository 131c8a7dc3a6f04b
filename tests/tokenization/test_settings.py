"""Rows are those of sentence-transformers, by all that a folder says of how its pairs are encoded; or it is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from rerank_plugins import ModelLoadError, Pair, load_reranker

TOKENIZER, SENTENCE_BERT, PROMPTS = (
    "tokenizer_config.json",
    "sentence_bert_config.json",
    "config_sentence_transformers.json",
)

WEB = {"web": "what is bread "}


def edit(folder: Path, name: str, **values: Any) -> None:
    """Set values of a JSON file; ``...`` takes one away."""
    path = folder / name
    content = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    content = {key: value for key, value in {**content, **values}.items() if value is not ...}
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def saved_bert(fresh_bert: Path, tmp_path: Path) -> Path:
    """The BERT stand-in as sentence-transformers saves it."""
    from sentence_transformers import CrossEncoder

    CrossEncoder(str(fresh_bert), device="cpu", local_files_only=True).save_pretrained(str(tmp_path / "saved"))
    return tmp_path / "saved"


def logits_of_sentence_transformers(folder: Path, pairs: list[Pair]) -> list[float]:
    import torch
    from sentence_transformers import CrossEncoder

    model = CrossEncoder(str(folder), device="cpu", local_files_only=True)
    found: list[float] = model.predict(pairs, activation_fn=torch.nn.Identity(), show_progress_bar=False).tolist()
    return found


@pytest.mark.parametrize(
    ("name", "values"),
    [
        (TOKENIZER, {"model_input_names": ["input_ids", "attention_mask"]}),
        (TOKENIZER, {"model_input_names": ["input_ids", "token_type_ids", "attention_mask"]}),
        (TOKENIZER, {"model_input_names": ..., "tokenizer_class": "PreTrainedTokenizerFast"}),
        (TOKENIZER, {"model_input_names": ..., "tokenizer_class": "BertTokenizerFast"}),
        (TOKENIZER, {"model_input_names": ..., "tokenizer_class": "ElectraTokenizerFast"}),
        (TOKENIZER, {"model_input_names": ..., "tokenizer_class": ..., "backend": ...}),
        (TOKENIZER, {"tokenizer_class": "BertTokenizer", "backend": ..., "do_lower_case": False}),
        (TOKENIZER, {"tokenizer_class": "BertTokenizer", "backend": ..., "tokenize_chinese_chars": False}),
        (TOKENIZER, {"tokenizer_class": "DistilBertTokenizerFast", "backend": ..., "strip_accents": False}),
        (TOKENIZER, {"tokenizer_class": "ElectraTokenizer", "backend": ...}),
        (PROMPTS, {"prompts": WEB, "default_prompt_name": "web"}),
        (PROMPTS, {"prompts": WEB, "default_prompt_name": None}),
        (PROMPTS, {"prompts": WEB}),
        (SENTENCE_BERT, {"do_lower_case": True}),
    ],
)
def test_rows_are_those_of_sentence_transformers(
    saved_bert: Path, pairs: list[Pair], name: str, values: dict[str, Any]
) -> None:
    """Token types, what stands before the query, and lower case are taken from the files of the folder."""
    edit(saved_bert, name, **values)
    given = [*pairs[:10], ("HOW do Plants make food", "PHOTOSYNTHESIS turns sunlight"), ("càt", "光合作用 bréad")]
    expected = logits_of_sentence_transformers(saved_bert, given)
    found = load_reranker(saved_bert, engine="torch", precision="fp32", device="cpu").score(given)
    assert found == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("name", "values"), [(TOKENIZER, {"model_max_length": 24}), (SENTENCE_BERT, {"max_seq_length": 24})]
)
def test_a_saved_max_length_is_kept_to(saved_bert: Path, name: str, values: dict[str, Any]) -> None:
    """A passage is cut where sentence-transformers cuts it, and ``truncated`` says so."""
    edit(saved_bert, name, **values)
    given = [("cat", "the cat sat on the mat and slept in the sun " * 3)]
    reranker = load_reranker(saved_bert, engine="torch", precision="fp32", device="cpu")
    assert reranker.score(given) == pytest.approx(logits_of_sentence_transformers(saved_bert, given), abs=1e-4)
    assert reranker.score_detailed(given)[0].truncated


@pytest.mark.parametrize("place", ["file", "config"])
def test_a_chat_template_is_refused(fresh_bert: Path, place: str) -> None:
    """Pairs joined without it would be ranked wrongly, in silence."""
    if place == "file":
        (fresh_bert / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    else:
        edit(fresh_bert, TOKENIZER, chat_template="{{ messages }}")
    with pytest.raises(
        ModelLoadError, match=r"has a chat template, and it does not take messages of the roles query and document"
    ):
        load_reranker(fresh_bert, engine="torch", device="cpu")


def test_arguments_for_the_tokenizer_are_refused(saved_bert: Path) -> None:
    """What sentence-transformers would hand to it is not left out in silence."""
    edit(saved_bert, SENTENCE_BERT, processing_kwargs={"text": {"add_special_tokens": False}})
    with pytest.raises(ModelLoadError, match=r"has processing_kwargs=.*would rank otherwise"):
        load_reranker(saved_bert, engine="torch", device="cpu")


@pytest.mark.parametrize("template", [None, "[CLS] $A $B [SEP]", "$A $B"])
def test_a_template_that_joins_words_is_refused(fresh_bert: Path, template: str | None) -> None:
    """Where nothing stands between query and passage, "cat" and "dog" would be read as "catdog"."""
    tokenizer = Tokenizer.from_file(str(fresh_bert / "tokenizer.json"))
    specials = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = (
        processors.TemplateProcessing(single="$A", pair=template, special_tokens=specials)
        if template
        else processors.Sequence([])
    )
    tokenizer.save(str(fresh_bert / "tokenizer.json"))
    with pytest.raises(ModelLoadError, match="puts nothing between query and passage"):
        load_reranker(fresh_bert, engine="torch", device="cpu")


def test_a_damaged_file_is_named(saved_bert: Path) -> None:
    """With what to do about it."""
    (saved_bert / PROMPTS).write_text("[]", encoding="utf-8")
    with pytest.raises(ModelLoadError, match=r"config_sentence_transformers.json holds list.*Download"):
        load_reranker(saved_bert, engine="torch", device="cpu")
