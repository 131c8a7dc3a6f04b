"""A process that reranks texts of all lengths: prints its resident bytes after 200 calls and after 1,000.

Both are means over 50 calls: between two returns of freed memory to the system they move by some percent.
"""

from __future__ import annotations

import math
import os
import random
import sys
from pathlib import Path
from statistics import fmean
from typing import Any

from rerank_plugins import load_reranker
from rerank_plugins.retrieval import example_corpus, read_corpus


def resident() -> int:
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main(model: str, engine: Any, precision: Any) -> None:
    words = " ".join(passage.text for passage in read_corpus(example_corpus())).split()
    draw = random.Random(0)

    def text(most: int) -> str:
        return " ".join(draw.choices(words, k=draw.randint(1, most)))

    seen = []
    with load_reranker(model, engine=engine, precision=precision, device="cpu") as reranker:
        for _ in range(1000):
            reranker.rerank(text(20), [text(300) for _ in range(round(math.exp(draw.uniform(0, math.log(60)))))])
            seen.append(resident())
    print(round(fmean(seen[150:200])), round(fmean(seen[950:])))  # noqa: T201 - the result


if __name__ == "__main__":
    main(*sys.argv[1:])
