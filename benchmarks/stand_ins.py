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
SHAPES = ("mini", "standin-6", "standin-24")
"""all-MiniLM-L6-v2's shape; bge-reranker-v2-m3's with 6 and with all 24 of its layers."""


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
