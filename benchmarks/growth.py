"""How time and memory grow from 50 to 10,000 documents: one process a size, so that peaks are its own.

Time should be a straight line in tokens, and memory flat: documents are encoded in chunks, batches are
bounded by tokens. Prints a table; ``--plot FILE`` draws it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import time
from pathlib import Path

from stand_ins import QUERY

from rerank_plugins import load_reranker
from rerank_plugins.retrieval import example_corpus, read_corpus

SIZES = (50, 200, 1000, 3000, 10_000)


def documents(count: int) -> list[str]:
    """Pairs of example passages, about 100 to 170 tokens, no two alike."""
    texts = [passage.text for passage in read_corpus(example_corpus())]
    draw = random.Random(0)  # noqa: S311 - no cryptography
    return [" ".join(draw.sample(texts, 2)) for _ in range(count)]


def measure(model: str, count: int) -> dict[str, float]:
    """Seconds, tokens and mebibytes of one call; the first call of the process warms up and is not counted."""
    reranker = load_reranker(model)
    texts = documents(count)
    reranker.rerank(QUERY, documents(50))
    # Linux gives kibibytes.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    reranker.rerank(QUERY, texts)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    encoder = reranker.scorer.encoder  # type: ignore[attr-defined]
    tokens = sum(len(row.input_ids) for row in encoder.encode([(QUERY, text) for text in texts]))
    return {"documents": count, "tokens": tokens, "seconds": seconds, "MiB": peak, "MiB more": peak - before}


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Seconds over tokens, and the peak of memory over documents."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5), layout="constrained")
    left.plot([row["tokens"] for row in rows], [row["seconds"] for row in rows], marker="o")
    left.set(xlabel="tokens", ylabel="seconds", title="time of one call")
    right.plot([row["documents"] for row in rows], [row["MiB"] for row in rows], marker="o")
    right.set(xlabel="documents", ylabel="MiB", title="peak memory of the process", ylim=(0, None))
    figure.savefig(path, dpi=110)


def main() -> None:
    """Measure every size in a process of its own and show what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="rerank-mini-en")
    parser.add_argument("--plot", type=Path)
    parser.add_argument("--one", type=int, help="measure this size only, and print JSON")
    args = parser.parse_args()
    if args.one:
        print(json.dumps(measure(args.model, args.one)))
        return
    rows = []
    print(f"{'documents':>10} {'tokens':>10} {'seconds':>9} {'us/token':>9} {'MiB':>7}")
    for size in SIZES:
        command = [sys.executable, __file__, "--model", args.model, "--one", str(size)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603 - our own script
        row = json.loads(done.stdout)
        rows.append(row)
        per_token = 1e6 * row["seconds"] / row["tokens"]
        print(
            f"{size:>10} {row['tokens']:>10.0f} {row['seconds']:>9.2f} {per_token:>9.1f} {row['MiB']:>7.0f}", flush=True
        )
    if args.plot:
        draw(rows, args.plot)


if __name__ == "__main__":
    main()
