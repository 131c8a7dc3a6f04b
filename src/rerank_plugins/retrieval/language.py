"""Which of the bundled models read Chinese."""

from __future__ import annotations

from pathlib import Path

from rerank_plugins.retrieval.embedder import BUNDLED_EMBEDDER

BUNDLED_RERANKER = "rerank-mini-en"


def is_chinese(text: str) -> bool:
    """Whether the text has a Chinese character."""
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def reads_chinese(reranker: str) -> bool:
    """False for the bundled reranker; any other is assumed to read Chinese."""
    return Path(reranker).name != BUNDLED_RERANKER


def chinese_warnings(reranker: str, embedder: str) -> list[str]:
    """One sentence for each of the two models that cannot read Chinese, with what to use instead."""
    warnings = []
    if not reads_chinese(reranker):
        warnings.append(
            f"{BUNDLED_RERANKER} reads English only; its scores for Chinese mean nothing. Use --model "
            f"BAAI/bge-reranker-v2-m3, after: hf download BAAI/bge-reranker-v2-m3 --local-dir models/bge-reranker-v2-m3"
        )
    if Path(embedder).name == BUNDLED_EMBEDDER:
        warnings.append(
            f"{BUNDLED_EMBEDDER} knows Chinese by single characters only: 20 of the example's 53 answers were not in "
            f"its top 50. Use --embedder BAAI/bge-m3, or another that reads Chinese."
        )
    return warnings
