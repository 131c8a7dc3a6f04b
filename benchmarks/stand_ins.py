"""What the benchmarks score: models of real shapes with random weights, and passages of mixed length."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

from rerank_plugins.hub import find_model
from rerank_plugins.retrieval import example_corpus, read_corpus

QUERY = "how should coffee beans be stored so that they stay fresh"
SHAPES = ("mini", "standin-6", "standin-24", "decoder-4")
"""all-MiniLM-L6-v2's shape; bge-reranker-v2-m3's with 6 and all 24 layers; Qwen3-Reranker-0.6B's with 4 of its 28."""

_SYSTEM = "Judge whether the Document meets the requirements based on the Query and the Instruct provided."


def passages(seed: int, most: int = 50) -> list[str]:
    """Passages of one to eight joined example passages, about 60 to 450 tokens, anew for every seed."""
    texts = [passage.text for passage in read_corpus(example_corpus())]
    random.Random(seed).shuffle(texts)  # noqa: S311 - no cryptography
    result, start = [], 0
    for number in range(most):
        count = 1 + number * 3 % 8
        result.append(" ".join(texts[start : start + count]))
        start += count
    return result


def write_model(shape: str, folder: Path, standins: Path) -> None:
    """Write torch weights and tokenizer of ``shape``; ``standins`` holds the script that writes v2-m3's."""
    if shape == "mini":
        _write_mini(folder)
        return
    if shape == "decoder-4":
        _write_decoder(folder)
        return
    layers = shape.rsplit("-", maxsplit=1)[-1]
    command = [sys.executable, standins / "make_standin.py", "--layers", layers, "--out", folder]
    subprocess.run([str(part) for part in command], check=True)  # noqa: S603 - arguments of our own


def _write_mini(folder: Path) -> None:
    """A BERT cross-encoder of MiniLM's shape, with the vocabulary of the bundled model."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=1,
        # Wider than the default, so that scores differ by more than rounding.
        initializer_range=0.1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    box = find_model("rerank-mini-en")
    tokenizer = json.loads((box / "tokenizer.json").read_text(encoding="utf-8"))
    pair = tokenizer["post_processor"]["pair"]
    # BERT's own template has no [CLS] before the passage.
    tokenizer["post_processor"]["pair"] = [*pair[:3], *pair[4:]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    settings = (box / "tokenizer_config.json").read_text(encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(settings, encoding="utf-8")


def _write_decoder(folder: Path) -> None:
    """A causal language model of Qwen3-Reranker-0.6B's shape with 4 of its 28 layers, as sentence-transformers has it.

    Its tokenizer is trained on the example passages, so that these have somewhat fewer tokens than Qwen's would.
    """
    import torch
    from sentence_transformers import CrossEncoder
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer, Qwen3Config, Qwen3ForCausalLM

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=20_000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    texts = [passage.text for passage in read_corpus(example_corpus())]
    learned.train_from_iterator([*texts, QUERY, f"{_SYSTEM} <Instruct> <Query> <Document> yes no"], trainer)
    model = json.loads(learned.to_str())["model"]
    vocabulary = {**model["vocab"], **{word: len(model["vocab"]) + n for n, word in enumerate(("yes", "no"))}}
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(vocabulary))}
    merges = [tuple(merge) for merge in model["merges"]]
    tokenizer = Qwen2Tokenizer(vocab={**vocabulary, "<|endoftext|>": len(vocabulary)}, merges=merges)
    tokenizer.add_tokens(["<|im_start|>", "<|im_end|>", "<think>", "</think>"], special_tokens=True)
    tokenizer.chat_template = (
        f"{{{{ '<|im_start|>system\\n{_SYSTEM}<|im_end|>\\n<|im_start|>user\\n<Query>: ' + messages[0].content }}}}"
        "{{ '\\n<Document>: ' + messages[1].content + '<|im_end|>\\n<|im_start|>assistant\\n' }}"
    )
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=151_669,
        hidden_size=1024,
        num_hidden_layers=4,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=3072,
        initializer_range=0.1,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=40_960,
    )
    plain = folder.with_name(f"{folder.name}-plain")
    Qwen3ForCausalLM(config).save_pretrained(plain)
    tokenizer.save_pretrained(plain)
    CrossEncoder(str(plain), device="cpu").save_pretrained(str(folder))
    shutil.rmtree(plain)


def write_onnx(folder: Path) -> None:
    """``onnx-peers/model.onnx`` and ``model_int8.onnx``, where our own loading does not look."""
    import torch
    from onnxruntime.quantization import quantize_dynamic
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    # Without a second segment its input has nothing to say, as in XLM-R.
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if model.config.type_vocab_size > 1 else [])]

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model  # its weights become initializers, which alone are quantized

        def forward(self, *tensors: Any) -> Any:
            return self.model(**dict(zip(names, tensors, strict=True))).logits

    out = folder / "onnx-peers"
    out.mkdir(exist_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter announces its own end
        torch.onnx.export(
            Logits(),
            (torch.full((2, 8), 5), *[torch.ones((2, 8), dtype=torch.int64)] * (len(names) - 1)),
            str(out / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names},
            dynamo=False,
        )
    for file in ("config.json", "tokenizer.json", "tokenizer_config.json"):  # where fastembed looks
        shutil.copyfile(folder / file, out / file)
    quantize_dynamic(out / "model.onnx", out / "model_int8.onnx", use_external_data_format=True)
