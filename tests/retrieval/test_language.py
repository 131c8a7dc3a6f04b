"""Warnings about models that do not read Chinese."""

from __future__ import annotations

from rerank_plugins.retrieval.language import chinese_warnings


def test_bundled_models_are_warned_about() -> None:
    """The warnings say that the reranker's scores mean nothing, what the embedder misses, and what to use instead."""
    reranker, embedder = chinese_warnings("rerank-mini-en", "embed-static-en")
    assert "reads English only" in reranker
    assert "hf download BAAI/bge-reranker-v2-m3" in reranker
    assert "--embedder BAAI/bge-m3" in embedder


def test_other_models_are_not_warned_about() -> None:
    """Models other than the bundled ones are assumed to read Chinese."""
    assert chinese_warnings("BAAI/bge-reranker-v2-m3", "BAAI/bge-m3") == []
