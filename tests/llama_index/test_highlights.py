"""The best sentence of a node, in the metadata of its copy."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import get_response_synthesizer
from llama_index.core.llms import MockLLM
from llama_index.core.schema import MetadataMode, NodeWithScore, TextNode

from rerank_plugins import Reranker
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.testing import WordOverlap
from scorers import ByLength

QUERY = "titanium."
PHONE = "The phone was shown in September. Its frame is made of titanium. It costs 999 dollars."
FOUND = {"start": 34, "end": 64, "text": "Its frame is made of titanium."}
MODES = [MetadataMode.ALL, MetadataMode.EMBED, MetadataMode.LLM]


def nodes() -> list[NodeWithScore]:
    texts = {"fruit": "Apples are a healthy fruit. Eat one a day.", "phone": PHONE, "blank": " "}
    return [
        NodeWithScore(node=TextNode(text=text, id_=name, metadata={"title": "About titanium."}), score=0.5)
        for name, text in texts.items()
    ]


def postprocessor(**fields: Any) -> RerankPostprocessor:
    return RerankPostprocessor(**{"reranker": WordOverlap(), "top_n": None, "highlight": True, **fields})


@pytest.mark.parametrize("mode", [*MODES, MetadataMode.NONE])
async def test_the_best_sentence_is_in_the_metadata(mode: MetadataMode) -> None:
    """Sync and async, whichever metadata is read: offsets into the node's text alone; what came in is untouched."""
    given = nodes()
    best = postprocessor(metadata_mode=mode).postprocess_nodes(given, query_str=QUERY)
    marked = {one.node_id: one.metadata["highlight"] for one in best}
    assert marked["phone"] == FOUND
    assert marked["blank"] is None
    assert PHONE[34:64] == FOUND["text"]
    assert await postprocessor(metadata_mode=mode).apostprocess_nodes(given, query_str=QUERY) == best
    assert given == nodes()


def test_only_what_is_kept_is_split() -> None:
    """All nodes are scored, and the sentences of the one that is kept."""
    reranker = Reranker(WordOverlap())
    bare = postprocessor(reranker=reranker, top_n=1, metadata_mode=MetadataMode.NONE)
    bare.postprocess_nodes(nodes(), query_str=QUERY)
    assert reranker.stats().pairs == 2 + 3


def test_no_prompt_reads_it() -> None:
    """Neither an embedder nor an LLM gets it to read, nor does a second pass of a reranker."""
    best = postprocessor().postprocess_nodes(nodes(), query_str=QUERY)
    for node in best:
        for mode in (MetadataMode.EMBED, MetadataMode.LLM):
            assert "highlight" not in node.get_content(metadata_mode=mode)
    prompt = str(get_response_synthesizer(llm=MockLLM()).synthesize(QUERY, nodes=best))
    assert "Its frame" in prompt
    assert "highlight" not in prompt
    again = postprocessor(reranker=ByLength(), metadata_mode=MetadataMode.ALL)
    first, second = (again.postprocess_nodes(given, query_str=QUERY) for given in (nodes(), best))
    assert [one.score for one in second] == [one.score for one in first]


def test_it_is_a_setting() -> None:
    """It is off by default, checked, and written down."""
    assert "highlight" not in postprocessor(highlight=False).postprocess_nodes(nodes(), query_str=QUERY)[0].metadata
    with pytest.raises(ValueError, match="valid boolean"):
        RerankPostprocessor(highlight="yes")  # type: ignore[arg-type]
    written = RerankPostprocessor(model="a/b", highlight=True).to_dict()
    assert RerankPostprocessor.from_dict(written).highlight is True
