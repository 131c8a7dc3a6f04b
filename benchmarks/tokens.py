"""What tokenizing costs beside the model, and what of it `token_cache` saves: 50 passages, met before.

Alternating, medians. Machines with fast accelerators spend a larger share here; run it on yours with ``--model``.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from stand_ins import QUERY, passages

from rerank_plugins import load_reranker
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer


def seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rerank-mini-en")
    parser.add_argument("--rounds", type=int, default=9)
    args = parser.parse_args()
    pairs = [(QUERY, text) for text in passages(1)]
    scorers = {}
    for size in (0, 1000):
        scorer = load_reranker(args.model, token_cache=size).scorer
        assert isinstance(scorer, CrossEncoderScorer)
        scorer.score(pairs)
        scorers[size] = scorer
    found: dict[str, list[float]] = {"tokenized": [], "kept": [], "whole call": []}
    for _ in range(args.rounds):
        found["tokenized"].append(seconds(lambda: scorers[0].encoder.encode(pairs)))
        found["kept"].append(seconds(lambda: scorers[1000].encoder.encode(pairs)))
        found["whole call"].append(seconds(lambda: scorers[0].score(pairs)))
    medians = {name: statistics.median(values) for name, values in found.items()}
    saved = medians["tokenized"] - medians["kept"]
    for name, median in medians.items():
        print(f"{name:<12} {1000 * median:8.1f} ms")
    print(f"token_cache saves {saved / medians['whole call']:.1%} of a call")


if __name__ == "__main__":
    main()
