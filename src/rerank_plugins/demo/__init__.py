"""The demo and the keyword traps: what `rerank-plugins demo`, `rerank-plugins traps` and `examples/` share."""

from __future__ import annotations

from rerank_plugins.demo.rag import (
    BOX_RERANKER,
    Passage,
    example_corpus,
    read_corpus,
    reads_chinese,
    show_chinese_warnings,
)

__all__ = ["BOX_RERANKER", "Passage", "example_corpus", "read_corpus", "reads_chinese", "show_chinese_warnings"]
