"""The model in the box, loaded once for these tests."""

from __future__ import annotations

import pytest

from rerank_plugins import Reranker, load_reranker
from rerank_plugins.langchain import RerankCompressor


@pytest.fixture(scope="session")
def box() -> Reranker:
    return load_reranker("rerank-mini-en")


@pytest.fixture
def compressor(box: Reranker) -> RerankCompressor:
    return RerankCompressor(reranker=box, top_n=2)
