from __future__ import annotations

import pytest
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import DeadlineExceededError
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.testing import FailingEngine, SlowEngine, toy_reranker


def nodes() -> list[NodeWithScore]:
    """Three, with the scores of a retriever."""
    return [NodeWithScore(node=TextNode(text=text, id_=text), score=0.9) for text in ("apple", "plums", "grape")]


def test_a_deadline_gives_the_nodes_without_scores() -> None:
    """What has no score comes in its order with score None, which SimilarityPostprocessor drops."""
    postprocessor = RerankPostprocessor(reranker=toy_reranker(SlowEngine(seconds=0.3)), top_n=2, deadline=0.01)
    found = postprocessor.postprocess_nodes(nodes(), query_str="q")
    assert [(node.node.node_id, node.score) for node in found] == [("apple", None), ("plums", None)]
    assert SimilarityPostprocessor(similarity_cutoff=0.1).postprocess_nodes(found) == []


async def test_an_error_can_keep_the_order() -> None:
    """on_error='keep_order' answers unranked; on_deadline='raise' raises, also in async."""
    postprocessor = RerankPostprocessor(reranker=toy_reranker(FailingEngine(at=1)), on_error="keep_order")
    found = await postprocessor.apostprocess_nodes(nodes(), query_str="q")
    assert [node.node.node_id for node in found] == ["apple", "plums", "grape"]
    late = RerankPostprocessor(reranker=toy_reranker(SlowEngine(seconds=0.3)), deadline=0.01, on_deadline="raise")
    with pytest.raises(DeadlineExceededError):
        await late.apostprocess_nodes(nodes(), query_str="q")


def test_the_settings_round_trip() -> None:
    """to_dict and from_dict keep them."""
    given = RerankPostprocessor(model="rerank-mini-en", deadline=2, on_deadline="raise", on_error="keep_order")
    again = RerankPostprocessor.from_dict(given.to_dict())
    assert (again.deadline, again.on_deadline, again.on_error) == (2.0, "raise", "keep_order")
