from __future__ import annotations

import pytest

from rerank_plugins import Reranker, load_reranker
from rerank_plugins.llama_index import RerankPostprocessor


@pytest.fixture(scope="session")
def box() -> Reranker:
    """The English model in the box."""
    return load_reranker("rerank-mini-en")


@pytest.fixture
def postprocessor(box: Reranker) -> RerankPostprocessor:
    """The model in the box, keeping two."""
    return RerankPostprocessor(reranker=box, top_n=2)
