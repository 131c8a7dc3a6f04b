"""Queries whose keywords mislead: BM25, an embedder and a reranker beside each other.

python examples/keyword_traps.py
python examples/keyword_traps.py --language zh --model BAAI/bge-reranker-v2-m3 --embedder BAAI/bge-m3
"""

from __future__ import annotations

import argparse
import sys

from rich.console import Console

from rerank_plugins import RerankError
from rerank_plugins.demo import rag as demo
from rerank_plugins.demo import traps
from rerank_plugins.retrieval.embedder import BOX_EMBEDDER


def main() -> None:
    """Spring every trap, and count."""
    parser = argparse.ArgumentParser(description="How often is a passage first that answers?")
    parser.add_argument("--model", default=demo.BOX_RERANKER, help="a reranker: a folder, in the box, or on the hub")
    parser.add_argument("--embedder", default=BOX_EMBEDDER, help="in the box, or any sentence-transformers model")
    parser.add_argument("--language", default="all", help="en, zh, or all that the model reads")
    options = parser.parse_args()
    console = Console(highlight=False)
    found = traps.run(options.language, options.model, options.embedder, Console(stderr=True))
    for outcome in found:
        traps.show_outcome(console, outcome)
    traps.show_summary(console, found)


if __name__ == "__main__":
    try:
        main()
    except RerankError as error:
        sys.exit(str(error))
