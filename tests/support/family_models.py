"""A small stand-in with random weights for every family of rerankers, saved by transformers as real ones are.

Tokenizers are those classes of transformers that the family's real repositories name, over small vocabularies that are
learned from the texts below.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stand_in_models import PASSAGES, QUERIES, SHAPE, bert_vocabulary, write_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

QWEN3_SYSTEM = (
    "Judge whether the Document meets the requirements based on the Query and the Instruct provided. Note that the "
    'answer can only be "yes" or "no".'
)
INSTRUCTION = "Given a web search query, retrieve relevant passages that answer the query"

# Qwen3-Reranker's, as sentence-transformers writes such templates: one message for each of the roles.
QWEN3_TEMPLATE = (
    '{%- set query = messages | selectattr("role", "eq", "query") | map(attribute="content") | first -%}'
    '{%- set document = messages | selectattr("role", "eq", "document") | map(attribute="content") | first -%}'
    '{%- set given = messages | selectattr("role", "eq", "system") | map(attribute="content") | first -%}'
    "{{ '<|im_start|>system\\n" + QWEN3_SYSTEM + "<|im_end|>\\n<|im_start|>user\\n' }}"
    "{{ '<Instruct>: ' + (given or '" + INSTRUCTION + "') + '\\n<Query>: ' + query + '\\n<Document>: ' + document }}"
    "{{ '<|im_end|>\\n<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}"
)

# Of other decoders: texts in turns of a chat, and a suffix that begins with plain words.
TURNS_TEMPLATE = (
    "{{ bos_token }}{%- for message in messages %}"
    "{% if message.role == 'system' %}{{ 'task: ' + message.content + '\\n' }}"
    "{% elif message.role == 'query' %}{{ 'query: ' + message.content }}"
    "{% else %}{{ '\\ndocument: ' + message.content }}{% endif %}"
    "{%- endfor %}{{ '\\nrelevance (yes or no):' }}"
)

_TEXTS = (*QUERIES, *PASSAGES, QWEN3_SYSTEM, INSTRUCTION, "<Instruct>: <Query>: <Document>: query: document: task:",
          "relevance (yes or no): yes no Yes No 1 0 user assistant system think", "A: B: .\n ?\n !\n")  # fmt: skip
_BERT_SPECIAL = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
_CHAT_TOKENS = ["<|im_start|>", "<|im_end|>", "<think>", "</think>"]


@functools.cache
def byte_level_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a byte-level BPE, as GPT-2 splits words."""
    from tokenizers import pre_tokenizers

    return _train_bpe(pre_tokenizers.ByteLevel(add_prefix_space=False), pre_tokenizers.ByteLevel.alphabet(), _TEXTS)


@functools.cache
def sentencepiece_bpe() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Vocabulary and merges of a BPE over words that begin with a visible space; newlines are pieces of their own."""
    from tokenizers import pre_tokenizers

    alphabet = sorted({*"".join(_TEXTS).replace(" ", "▁")})
    words = pre_tokenizers.Metaspace(prepend_scheme="never")
    return _train_bpe(words, alphabet, [line for text in _TEXTS for line in text.splitlines()])


def _train_bpe(splitter: Any, alphabet: list[str], texts: Any) -> tuple[dict[str, int], list[tuple[str, str]]]:
    import json

    from tokenizers import Tokenizer, models, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = splitter
    tokenizer.train_from_iterator(
        texts, trainers.BpeTrainer(vocab_size=700, min_frequency=1, initial_alphabet=alphabet, show_progress=False)
    )
    model = json.loads(tokenizer.to_str())["model"]
    return model["vocab"], [tuple(merge) for merge in model["merges"]]


def _unigram(special: list[str]) -> list[tuple[str, float]]:
    """Special pieces, then words and characters with the scores of a unigram model."""
    text = " ".join(_TEXTS).lower()
    words = sorted({"▁" + word for word in text.split() if word.isascii()})
    characters = sorted({"▁", *text, *"abcdefghijklmnopqrstuvwxyz0123456789"} - {" ", "\n"})
    return [(piece, 0.0) for piece in special] + [(w, -3.0) for w in words] + [(c, -9.0) for c in characters]


def _bert(name: str) -> Any:
    import transformers

    return getattr(transformers, name)(vocab=bert_vocabulary())


def _mpnet() -> Any:
    from transformers import MPNetTokenizer

    special = ["<s>", "<pad>", "</s>", "[UNK]", "<mask>"]
    pieces = [*special, *(piece for piece in bert_vocabulary() if not piece.startswith("["))]
    return MPNetTokenizer(vocab={piece: number for number, piece in enumerate(pieces)})


def _roberta() -> Any:
    from transformers import RobertaTokenizer

    vocabulary, merges = byte_level_bpe()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    return RobertaTokenizer(vocab={piece: n for n, piece in enumerate([*special, *vocabulary])}, merges=merges)


def _unigram_tokenizer(name: str, special: list[str], **options: Any) -> Any:
    import transformers

    return getattr(transformers, name)(vocab=_unigram(special), **options)


def _fast_byte_level(names: dict[str, str], inputs: list[str] | None = None) -> Any:
    """A tokenizer of no class of its own, as ModernBERT and EuroBERT have it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    vocabulary, merges = byte_level_bpe()
    pieces = {piece: n for n, piece in enumerate([*names.values(), *vocabulary])}
    tokenizer = Tokenizer(models.BPE(vocab=pieces, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first, last = names.get("cls_token", names.get("bos_token")), names.get("sep_token", names.get("eos_token"))
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} $B {last}",
        special_tokens=[(name, pieces[name]) for name in (first, last)],
    )
    given = {} if inputs is None else {"model_input_names": inputs}
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **given, **names)


def qwen_tokenizer() -> Any:
    """Qwen2 and Qwen3: byte-level BPE, a turn's marks as special tokens."""
    from transformers import Qwen2Tokenizer

    vocabulary, merges = byte_level_bpe()
    tokenizer = Qwen2Tokenizer(vocab={**vocabulary, "<|endoftext|>": len(vocabulary)}, merges=merges)
    tokenizer.add_tokens(_CHAT_TOKENS, special_tokens=True)
    return tokenizer


def _llama_tokenizer() -> Any:
    from transformers import LlamaTokenizer

    vocabulary, merges = sentencepiece_bpe()
    special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*special, *(piece for piece in vocabulary if piece not in special)]
    tokenizer = LlamaTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)
    tokenizer.pad_token = "</s>"  # noqa: S105 - no password
    return tokenizer


def _gemma_tokenizer() -> Any:
    from transformers import GemmaTokenizer

    vocabulary, merges = sentencepiece_bpe()
    special = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>", *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = [*special, *(piece for piece in vocabulary if piece not in special)]
    return GemmaTokenizer(vocab={piece: n for n, piece in enumerate(pieces)}, merges=merges)


_XLMR = ["<s>", "<pad>", "</s>", "<unk>"]
_ALBERT = ["<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]"]
_DEBERTA = ["[PAD]", "[CLS]", "[SEP]", "[UNK]"]
_EURO = {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>", "pad_token": "<|pad|>"}
_HEADS = {"num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 64}

Family = tuple[str, Callable[[], Any], dict[str, Any]]

ENCODERS: dict[str, Family] = {
    "bert": ("bert", lambda: _bert("BertTokenizer"), {}),
    "roberta": ("roberta", _roberta, {"type_vocab_size": 1, "max_position_embeddings": 514}),
    "xlm-r": (
        "xlm-roberta",
        lambda: _unigram_tokenizer("XLMRobertaTokenizer", _XLMR),
        {"type_vocab_size": 1, "max_position_embeddings": 514},
    ),
    "distilbert": (
        "distilbert",
        lambda: _bert("DistilBertTokenizer"),
        {"dim": 32, "n_layers": 2, "n_heads": 2, "hidden_dim": 64},
    ),
    "electra": ("electra", lambda: _bert("ElectraTokenizer"), {"embedding_size": 16}),
    "albert": ("albert", lambda: _unigram_tokenizer("AlbertTokenizer", _ALBERT), {"embedding_size": 16}),
    "mpnet": ("mpnet", _mpnet, {"max_position_embeddings": 514}),
    "deberta-v2": (
        "deberta-v2",
        lambda: _unigram_tokenizer("DebertaV2Tokenizer", _DEBERTA),
        {"pooler_hidden_size": 32, "type_vocab_size": 0},
    ),
    "deberta-v3": (
        "deberta-v2",
        lambda: _unigram_tokenizer("DebertaV2Tokenizer", _DEBERTA),
        {
            "pooler_hidden_size": 32,
            "type_vocab_size": 0,
            "relative_attention": True,
            "position_buckets": 32,
            "norm_rel_ebd": "layer_norm",
            "share_att_key": True,
            "pos_att_type": ["p2c", "c2p"],
            "position_biased_input": False,
        },
    ),
    "modernbert": (
        "modernbert",
        lambda: _fast_byte_level(_BERT_SPECIAL, ["input_ids", "attention_mask"]),
        {"local_attention": 16, "num_hidden_layers": 4, "classifier_pooling": "mean"},
    ),
    "gte": ("gte", lambda: _unigram_tokenizer("XLMRobertaTokenizer", _XLMR), {"type_vocab_size": 1}),
    "nomic": ("nomic_bert", lambda: _bert("BertTokenizer"), {}),
    "eurobert": ("eurobert", lambda: _fast_byte_level(_EURO), _HEADS),
}
"""Sequence classifiers of one label: architecture, tokenizer, and what their configuration has beyond two layers."""

DECODERS: dict[str, Family] = {
    "qwen3": ("qwen3", qwen_tokenizer, _HEADS),
    "qwen2": ("qwen2", qwen_tokenizer, {"num_key_value_heads": 1}),
    "llama": ("llama", _llama_tokenizer, _HEADS),
    "gemma": ("gemma", _gemma_tokenizer, _HEADS),
    "gemma2": ("gemma2", _gemma_tokenizer, {**_HEADS, "sliding_window": 16}),
    "gemma3": ("gemma3_text", _gemma_tokenizer, {**_HEADS, "sliding_window": 16}),
    "mistral": ("mistral", _llama_tokenizer, {**_HEADS, "sliding_window": 32}),
}
"""Decoders, as sequence classifiers or as language models."""


def write_encoder(folder: Path, family: str) -> None:
    """A sequence classifier of the family with its tokenizer."""
    architecture, make_tokenizer, config = ENCODERS[family]
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    write_model(folder, architecture, head=3, **{**_config(tokenizer), "max_position_embeddings": 512, **config})


def write_decoder(folder: Path, family: str, *, template: str | None = TURNS_TEMPLATE, **config: Any) -> None:
    """A sequence classifier of one label, with the chat template beside it; None for none."""
    architecture, make_tokenizer, shape = DECODERS[family]
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    write_model(folder, architecture, head=3, **{**_decoder_config(tokenizer), **shape, **config})


def write_language_model(
    folder: Path, family: str, *, template: str | None = TURNS_TEMPLATE, modules: bool = True, **config: Any
) -> None:
    """A causal language model with its template; with ``modules`` as sentence-transformers saves it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    architecture, make_tokenizer, shape = DECODERS[family]
    tokenizer = make_tokenizer()
    tokenizer.chat_template = template
    torch.manual_seed(0)
    values = {**SHAPE, **_decoder_config(tokenizer), **shape, **config}
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(architecture, **values))
    model.get_output_embeddings().weight.data.mul_(3)
    if not modules:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        return
    from sentence_transformers import CrossEncoder

    plain = folder.with_name(f"{folder.name}-plain")
    model.save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    CrossEncoder(str(plain), device="cpu", local_files_only=True).save_pretrained(str(folder))


def _decoder_config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    return {**_config(tokenizer), "max_position_embeddings": 1024, "tie_word_embeddings": False}


def _config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    names = ("pad", "bos", "eos", "cls", "sep")
    ids = {f"{name}_token_id": getattr(tokenizer, f"{name}_token_id", None) for name in names}
    return {"vocab_size": len(tokenizer), **ids}


def iterate_families() -> Iterator[str]:
    """The names of all families."""
    yield from (*ENCODERS, *DECODERS)
