"""`RerankPostprocessor` with the real framework and the model in the box."""

from __future__ import annotations

import asyncio
import json

import pytest
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.llms import MockLLM
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.schema import Document, ImageNode, MetadataMode, NodeWithScore, QueryBundle, TextNode
from pydantic import ValidationError

from rerank_plugins import InvalidInputError, Pair, Reranker, load_reranker
from rerank_plugins.llama_index import RerankPostprocessor

QUERY = "What is the frame of the phone made of?"
TEXTS = [
    "Apples are a healthy fruit, rich in fibre.",
    "The iPhone 15 Pro has a frame of titanium.",
    "A frame of oak holds the picture in the hall.",
]


class ByLength:
    """The longer the passage, the higher its score; remembers what it was given."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        self.seen += [passage for _, passage in pairs]
        return [float(len(passage)) for _, passage in pairs]


class Fixed(BaseRetriever):
    """Returns the nodes it holds."""

    def __init__(self, held: list[NodeWithScore]) -> None:
        self.held = held
        super().__init__()

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:  # noqa: ARG002
        return self.held


def nodes() -> list[NodeWithScore]:
    return [
        NodeWithScore(node=TextNode(text=text, id_=f"n{n}", metadata={"page": n}), score=0.5 - n / 10)
        for n, text in enumerate(TEXTS)
    ]


@pytest.fixture(scope="module")
def postprocessor() -> RerankPostprocessor:
    return RerankPostprocessor(reranker=load_reranker("rerank-mini-en"), top_n=2)


def test_puts_the_node_that_answers_first(postprocessor: RerankPostprocessor) -> None:
    """The best node comes first, its score a built-in float in [0, 1]."""
    best = postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    assert [len(best), best[0].node_id] == [2, "n1"]
    assert all(type(node.score) is float and 0.0 <= node.score <= 1.0 for node in best)
    assert json.loads(best[0].to_json())["score"] == best[0].score


def test_works_inside_a_retriever_query_engine(postprocessor: RerankPostprocessor) -> None:
    """It is a drop-in node_postprocessor, sync and async, and the sources are its nodes."""
    engine = RetrieverQueryEngine.from_args(Fixed(nodes()), llm=MockLLM(), node_postprocessors=[postprocessor])
    sources = engine.query(QUERY).source_nodes
    assert [len(sources), sources[0].node_id] == [2, "n1"]
    later = asyncio.run(engine.aquery(QUERY)).source_nodes
    assert [(node.node_id, node.score) for node in later] == [(node.node_id, node.score) for node in sources]


def test_leaves_what_came_in_untouched(postprocessor: RerankPostprocessor) -> None:
    """Scores, order, dump and hash of the input are the same before and after."""
    given = nodes()
    before = [(node.model_dump(), node.node.hash) for node in given]
    best = postprocessor.postprocess_nodes(given, query_str=QUERY)
    assert [(node.model_dump(), node.node.hash) for node in given] == before
    assert not any(result is node for result in best for node in given)


def test_keeps_ids_and_metadata(postprocessor: RerankPostprocessor) -> None:
    """The nodes inside the results are the nodes that came in."""
    given = nodes()
    best = postprocessor.postprocess_nodes(given, query_str=QUERY)
    assert best[0].node is given[1].node
    assert best[0].metadata == {"page": 1}


def test_scores_the_text_an_embedder_would_see() -> None:
    """Metadata excluded from embedding is not scored, other metadata is."""
    scorer = ByLength()
    node = TextNode(text="body", metadata={"a": "kept", "b": "hidden"}, excluded_embed_metadata_keys=["b"])
    RerankPostprocessor(reranker=Reranker(scorer)).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert scorer.seen == [node.get_content(metadata_mode=MetadataMode.EMBED)]
    assert "kept" in scorer.seen[0]
    assert "hidden" not in scorer.seen[0]


def test_every_node_type_and_a_missing_score() -> None:
    """Text, document and image nodes, empty text and score None go through together."""
    given = [
        NodeWithScore(node=TextNode(text="some text")),
        NodeWithScore(node=Document(text="a document of its own"), score=0.0),
        NodeWithScore(node=ImageNode(image="aGk=")),
        NodeWithScore(node=TextNode(text="")),
    ]
    best = RerankPostprocessor(reranker=Reranker(ByLength()), top_n=None).postprocess_nodes(given, query_str=QUERY)
    assert [node.node_id for node in best] == [given[1].node_id, given[0].node_id, given[2].node_id, given[3].node_id]
    assert [node.score for node in best][2:] == [0.0, 0.0]


def test_duplicates_of_an_id_keep_their_own_scores() -> None:
    """Two texts under one node id are scored apart."""
    given = [NodeWithScore(node=TextNode(text=text, id_="same")) for text in ("a", "aaa")]
    best = RerankPostprocessor(reranker=Reranker(ByLength())).postprocess_nodes(given, query_str=QUERY)
    assert [node.text for node in best] == ["aaa", "a"]
    assert best[0].get_score() > best[1].get_score()


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 0), (1, 1), (3, 3), (99, 3)])
def test_top_n(top_n: int | None, kept: int) -> None:
    """None keeps all, 0 none, more than there are all."""
    postprocessor = RerankPostprocessor(reranker=Reranker(ByLength()), top_n=top_n)
    assert len(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)) == kept


@pytest.mark.parametrize("wrong", [{"top_n": -1}, {"score_threshold": 1.5}, {"topn": 3}])
def test_wrong_settings_are_refused(wrong: dict[str, float]) -> None:
    """A negative top_n, a threshold above 1 and a misspelt field raise when the object is made."""
    with pytest.raises(ValidationError, match=next(iter(wrong))):
        RerankPostprocessor(**wrong)  # type: ignore[arg-type]


def test_a_missing_query_says_so() -> None:
    """Nodes without a query raise a ValueError that names the missing query bundle."""
    with pytest.raises(ValueError, match="Missing query bundle") as caught:
        RerankPostprocessor(model="no/such-model").postprocess_nodes(nodes())
    assert isinstance(caught.value, InvalidInputError)


def test_an_empty_list_loads_no_model() -> None:
    """Nothing in, nothing out, and a model that does not exist is never looked for."""
    postprocessor = RerankPostprocessor(model="no/such-model")
    assert postprocessor.postprocess_nodes([], query_str=QUERY) == []
    assert asyncio.run(postprocessor.apostprocess_nodes([], query_str=QUERY)) == []


def test_settings_survive_a_round_trip() -> None:
    """to_dict and from_dict give an equal postprocessor; a scorer of one's own is refused."""
    first = RerankPostprocessor(model="rerank-mini-en", top_n=7, score_threshold=0.25)
    second = RerankPostprocessor.from_dict(first.to_dict())
    assert (second.model, second.top_n, second.score_threshold) == ("rerank-mini-en", 7, 0.25)
    with pytest.raises(ValidationError, match="ByLength, which cannot be written down"):
        RerankPostprocessor.from_dict(RerankPostprocessor(reranker=Reranker(ByLength())).to_dict())
