"""Queries whose keywords mislead: BM25, an embedder and a reranker beside each other.

python examples/keyword_traps.py
python examples/keyword_traps.py --language zh --model BAAI/bge-reranker-v2-m3 --embedder BAAI/bge-m3
"""

from __future__ import annotations

import sys

import typer

from rerank_plugins import RerankError
from rerank_plugins.demo.traps import traps

if __name__ == "__main__":
    try:
        typer.run(traps)
    except RerankError as error:
        sys.exit(str(error))
