"""One query, 50 passages of mixed length: this library beside sentence-transformers, in one run.

The paths are interleaved and medians compared, so that a busy machine slows all of them alike. Read
the ratios. Every round has passages of its own, as calls have at work: lengths that an engine has not met
yet cost it something. The model has all-MiniLM-L6-v2's shape and random weights: right for speed, not for quality.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from sentence_transformers import CrossEncoder
from transformers import BertConfig, BertForSequenceClassification

from rerank_plugins import InvalidInputError, load_reranker
from rerank_plugins.batching import rounded_up, token_budget_batches
from rerank_plugins.demo import example_corpus, read_corpus
from rerank_plugins.engines.openvino import LENGTH_MULTIPLE, TOKEN_BUDGET
from rerank_plugins.hub import find_model

QUERY = "how should coffee beans be stored so that they stay fresh"


def write_stand_in(folder: Path) -> None:
    """A BERT cross-encoder of MiniLM's shape, with the vocabulary of the model in the box."""
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=30_522,
        hidden_size=384,
        num_hidden_layers=6,
        num_attention_heads=12,
        intermediate_size=1536,
        num_labels=1,
    )
    BertForSequenceClassification(config).save_pretrained(folder)
    box = find_model("rerank-mini-en")
    tokenizer = json.loads((box / "tokenizer.json").read_text(encoding="utf-8"))
    pair = tokenizer["post_processor"]["pair"]
    # BERT's own template has no [CLS] before the passage.
    tokenizer["post_processor"]["pair"] = [*pair[:3], *pair[4:]]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        (box / "tokenizer_config.json").read_text(encoding="utf-8"), encoding="utf-8"
    )


def passages(seed: int) -> list[str]:
    """50 passages of one to eight joined example passages: about 60 to 480 tokens."""
    texts = [passage.text for passage in read_corpus(example_corpus())]
    random.Random(seed).shuffle(texts)  # noqa: S311 - no cryptography
    result, start = [], 0
    for number in range(50):
        count = 1 + number * 3 % 8
        result.append(" ".join(texts[start : start + count]))
        start += count
    return result


def paths(folder: Path) -> dict[str, Callable[[list[str]], object]]:
    """Everything that is timed, by name; the first is what the others are compared with."""
    stock = CrossEncoder(str(folder), device="cpu", max_length=512)

    def stock_path(texts: list[str]) -> object:
        return stock.predict([(QUERY, text) for text in texts], batch_size=32, show_progress_bar=False)

    found: dict[str, Callable[[list[str]], object]] = {"sentence-transformers, fp32, batch 32": stock_path}
    for engine, precision in (("torch", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")):
        try:
            reranker = load_reranker(folder, engine=engine, precision=precision)  # type: ignore[arg-type]
        except InvalidInputError as error:
            print(f"left out: {error}")
            continue
        found[f"rerank-plugins, {engine}, {precision}"] = lambda texts, r=reranker: r.rerank(QUERY, texts)  # type: ignore[misc]
    box = load_reranker("rerank-mini-en")
    found["rerank-plugins, openvino, int8 (rerank-mini-en itself)"] = lambda texts: box.rerank(QUERY, texts)
    return found


def main() -> None:
    """Time every path and print medians and ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    texts = passages(0)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_stand_in(folder)
        timed = paths(folder)
        encoder = load_reranker(folder, engine="openvino", precision="fp32").scorer.encoder  # type: ignore[attr-defined]
        lengths = [len(row.input_ids) for row in encoder.encode([(QUERY, text) for text in texts])]
        seconds: dict[str, list[float]] = {name: [] for name in timed}
        for call in timed.values():
            call(texts)  # the first call compiles and allocates
        for number in range(1, args.rounds + 1):
            anew = passages(number)
            for name, call in timed.items():
                start = time.perf_counter()
                call(anew)
                seconds[name].append(time.perf_counter() - start)
    widths = [rounded_up(length, LENGTH_MULTIPLE, 512) for length in lengths]
    slots = sum(len(batch) * widths[batch[0]] for batch in token_budget_batches(widths, TOKEN_BUDGET))
    spread = f"{sum(lengths)} tokens, {min(lengths)}-{max(lengths)} each"
    print(f"{len(texts)} passages, {spread}; padding {1 - sum(lengths) / slots:.1%}")
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    base = next(iter(medians.values()))
    for name, median in medians.items():
        print(f"{name:<56} {1000 * median:7.0f} ms   {base / median:5.2f}x")


if __name__ == "__main__":
    main()
