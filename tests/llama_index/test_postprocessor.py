"""`RerankPostprocessor`: nodes in, the most relevant of them out."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from llama_index.core.schema import (
    Document,
    ImageNode,
    IndexNode,
    MediaResource,
    MetadataMode,
    Node,
    NodeWithScore,
    QueryBundle,
    TextNode,
)

from llama_index_stand_ins import QUERY, TEXTS, ByLength, Gives, Remembers, nodes
from rerank_plugins import InvalidInputError, Reranker, ScoringError, sigmoid
from rerank_plugins.llama_index import RerankPostprocessor


class Textless(TextNode):
    """A node of somebody's own class, with nothing to read."""

    def get_content(self, metadata_mode: MetadataMode = MetadataMode.NONE) -> Any:  # noqa: ARG002
        """None, which is no text."""
        return None


def by_length(**fields: Any) -> RerankPostprocessor:
    return RerankPostprocessor(reranker=ByLength(), **fields)


def every_kind() -> list[NodeWithScore]:
    """One node of each class, with and without text, score and metadata."""
    return [
        NodeWithScore(
            node=TextNode(
                text="some text",
                metadata={"k": "v", "e": "not for embedding", "l": "not for the LLM"},
                excluded_embed_metadata_keys=["e"],
                excluded_llm_metadata_keys=["l"],
            ),
            score=0.3,
        ),
        NodeWithScore(node=Document(text="a document of its own"), score=0.0),
        NodeWithScore(node=Node(text_resource=MediaResource(text="a plain node")), score=None),
        NodeWithScore(node=IndexNode(text="an index node of some length", index_id="1"), score=-2.5),
        NodeWithScore(node=ImageNode(image="aGk=", metadata={"caption": "an image, which has metadata alone"})),
        NodeWithScore(node=ImageNode(image="aGk="), score=0.9),
        NodeWithScore(node=TextNode(text=""), score=0.9),
    ]


def snapshot(given: list[NodeWithScore]) -> list[Any]:
    return [(id(node), node.model_dump(), node.node.hash) for node in given]


def test_puts_the_node_that_answers_first(postprocessor: RerankPostprocessor) -> None:
    """The best node comes first, its score a built-in float in [0, 1] that JSON takes."""
    best = postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    assert [len(best), best[0].node_id] == [2, "n1"]
    assert all(type(node.score) is float and 0.0 <= node.score <= 1.0 for node in best)
    assert json.loads(best[0].to_json())["score"] == best[0].score


@pytest.mark.parametrize("keep", [False, True])
def test_leaves_what_came_in_untouched(postprocessor: RerankPostprocessor, keep: bool) -> None:  # noqa: FBT001
    """Objects, order, dump and hash of the input are the same before and after; the wrappers that come out are new."""
    twin = postprocessor.model_copy(update={"keep_retrieval_score": keep})
    for held in (nodes(), every_kind()):
        before = snapshot(held)
        best = [*twin.postprocess_nodes(held, query_str=QUERY)]
        best += asyncio.run(twin.apostprocess_nodes(held, query_str=QUERY))
        assert snapshot(held) == before
        assert not any(result is node for result in best for node in held)


def test_a_failing_scorer_leaves_what_came_in_untouched() -> None:
    """Also where the scores were wrong and an error was raised."""
    given = nodes()
    before = snapshot(given)
    with pytest.raises(ScoringError):
        RerankPostprocessor(reranker=Gives(1.0), keep_retrieval_score=True).postprocess_nodes(given, query_str=QUERY)
    assert snapshot(given) == before


def test_keeps_the_nodes_themselves(postprocessor: RerankPostprocessor) -> None:
    """Inside the results are the nodes that came in, not copies."""
    given = nodes()
    best = postprocessor.postprocess_nodes(given, query_str=QUERY)
    assert best[0].node is given[1].node


def test_the_retrieval_score_can_be_kept() -> None:
    """It stands in the metadata of a copy, also where it was None, beside what was there."""
    given = nodes()
    given[0].score = None
    best = by_length(keep_retrieval_score=True).postprocess_nodes(given, query_str=QUERY)
    assert {node.node_id: node.metadata for node in best} == {
        "n0": {"page": 0, "retrieval_score": None},
        "n1": {"page": 1, "retrieval_score": 0.4},
        "n2": {"page": 2, "retrieval_score": pytest.approx(0.3)},
    }


@pytest.mark.parametrize("position", range(len(every_kind())))
def test_the_kept_score_is_read_by_nobody(position: int) -> None:
    """What an embedder and an LLM read of any node is the same with it and without it, in a second pass too."""
    node = every_kind()[position]
    twice = by_length(keep_retrieval_score=True, mark_truncated=True)
    first = twice.postprocess_nodes([node], query_str=QUERY)
    (kept,) = twice.postprocess_nodes(first, query_str=QUERY)
    assert {"retrieval_score", "truncated"} <= kept.metadata.keys()
    assert type(kept.node) is type(node.node)
    assert kept.node.excluded_llm_metadata_keys is not first[0].node.excluded_llm_metadata_keys
    for mode in (MetadataMode.EMBED, MetadataMode.LLM):
        assert kept.node.get_content(metadata_mode=mode) == node.node.get_content(metadata_mode=mode)


def test_a_key_of_ones_own_is_read() -> None:
    """Metadata that a user calls retrieval_score is read like any other: only our own mark is passed over."""
    scorer = Remembers()
    node = TextNode(text="body", metadata={"retrieval_score": "mine"})
    RerankPostprocessor(reranker=scorer).postprocess_nodes([NodeWithScore(node=node)], query_str=QUERY)
    assert scorer.passages == ["retrieval_score: mine\n\nbody"]


def test_what_was_truncated_can_be_marked(box: Reranker) -> None:
    """mark_truncated says of each node whether the model read it to the end; None where the scorer cannot tell."""
    given = [NodeWithScore(node=TextNode(text=text, id_=str(len(text)))) for text in (TEXTS[1], "titanium " * 3000)]
    best = RerankPostprocessor(reranker=box, mark_truncated=True).postprocess_nodes(given, query_str=QUERY)
    assert {node.node_id: node.metadata["truncated"] for node in best} == {str(len(TEXTS[1])): False, "27000": True}
    (unknown,) = by_length(mark_truncated=True).postprocess_nodes(given[:1], query_str=QUERY)
    assert unknown.metadata["truncated"] is None


@pytest.mark.parametrize("mode", list(MetadataMode))
def test_a_second_pass_reads_the_same_text(mode: MetadataMode) -> None:
    """Whichever metadata is read, a kept score does not change what is scored, and is replaced."""
    scorer = Remembers()
    stage = RerankPostprocessor(reranker=scorer, keep_retrieval_score=True, metadata_mode=mode, top_n=None)
    first = stage.postprocess_nodes(nodes(), query_str=QUERY)
    second = stage.postprocess_nodes(first, query_str=QUERY)
    assert sorted(scorer.passages[:3]) == sorted(scorer.passages[3:])
    assert [node.metadata["retrieval_score"] for node in second] == [node.score for node in first]
    assert [node.node.excluded_llm_metadata_keys for node in second] == [["retrieval_score"]] * 3


@pytest.mark.parametrize(
    ("mode", "text"),
    [
        (MetadataMode.EMBED, "a: kept\nl: not for the LLM\n\nbody"),
        (MetadataMode.LLM, "a: kept\ne: not for embedding\n\nbody"),
        (MetadataMode.ALL, "a: kept\ne: not for embedding\nl: not for the LLM\n\nbody"),
        (MetadataMode.NONE, "body"),
    ],
)
def test_metadata_mode_says_what_is_read(mode: MetadataMode, text: str) -> None:
    """The text that is scored is the one that LlamaIndex makes in this mode."""
    scorer = Remembers()
    node = TextNode(
        text="body",
        metadata={"a": "kept", "e": "not for embedding", "l": "not for the LLM"},
        excluded_embed_metadata_keys=["e"],
        excluded_llm_metadata_keys=["l"],
    )
    RerankPostprocessor(reranker=scorer, metadata_mode=mode).postprocess_nodes(
        [NodeWithScore(node=node)], query_str=QUERY
    )
    assert scorer.passages == [text]


def test_what_an_embedder_reads_is_the_default() -> None:
    """Without metadata_mode it is EMBED."""
    assert RerankPostprocessor().metadata_mode is MetadataMode.EMBED


def test_every_node_type_goes_through_together() -> None:
    """All classes of nodes are ranked by their text; those without any come last, in order, with 0.0."""
    given = every_kind()
    best = by_length(top_n=None).postprocess_nodes(given, query_str=QUERY)
    lengths = [len(node.node.get_content(metadata_mode=MetadataMode.EMBED)) for node in given]
    order = sorted(range(len(given)), key=lambda position: -lengths[position])
    assert [node.node_id for node in best] == [given[position].node_id for position in order]
    assert [node.score for node in best] == [sigmoid(lengths[n] / 100) if lengths[n] else 0.0 for n in order]


def test_duplicates_of_an_id_keep_their_own_scores() -> None:
    """Two texts under one node id are scored apart, and the same node twice comes out twice."""
    given = [NodeWithScore(node=TextNode(text=text, id_="same")) for text in ("a", "aaa", "a")]
    best = by_length().postprocess_nodes(given, query_str=QUERY)
    assert [node.text for node in best] == ["aaa", "a", "a"]
    assert [node.score for node in best] == [sigmoid(0.03), sigmoid(0.01), sigmoid(0.01)]


def test_ties_keep_their_order() -> None:
    """Nodes of the same score come out in the order they came in."""
    given = [NodeWithScore(node=TextNode(text="same", id_=str(n))) for n in range(20)]
    best = by_length(top_n=None).postprocess_nodes(given, query_str=QUERY)
    assert [node.node_id for node in best] == [str(n) for n in range(20)]


@pytest.mark.parametrize(("top_n", "kept"), [(None, 3), (0, 0), (1, 1), (3, 3), (99, 3)])
def test_top_n(top_n: int | None, kept: int) -> None:
    """None keeps all, 0 none, more than there are all, sync and async."""
    postprocessor = by_length(top_n=top_n)
    assert len(postprocessor.postprocess_nodes(nodes(), query_str=QUERY)) == kept
    assert len(asyncio.run(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY))) == kept
    assert postprocessor.top_n == top_n


def test_the_threshold_is_inclusive_and_applied_before_top_n() -> None:
    """A node exactly at score_threshold stays; top_n cuts what the threshold left."""
    texts = ("aa", "a", "aaa")
    given = [NodeWithScore(node=TextNode(text=text, id_=text)) for text in texts]
    postprocessor = by_length(score_threshold=sigmoid(0.02))
    assert [node.node_id for node in postprocessor.postprocess_nodes(given, query_str=QUERY)] == ["aaa", "aa"]
    postprocessor.top_n = 1
    assert [node.node_id for node in postprocessor.postprocess_nodes(given, query_str=QUERY)] == ["aaa"]


@pytest.mark.parametrize("scores", [(1.0, 2.0), (1.0, math.nan, 2.0), (1.0, 2.0, 3.0, 4.0)])
def test_wrong_scores_raise_instead_of_dropping_nodes(scores: tuple[float, ...]) -> None:
    """Too few scores, too many, and NaN are errors, sync and async."""
    postprocessor = RerankPostprocessor(reranker=Gives(*scores))
    with pytest.raises(ScoringError, match=r"scores for 3 pairs|NaN"):
        postprocessor.postprocess_nodes(nodes(), query_str=QUERY)
    with pytest.raises(ScoringError, match=r"scores for 3 pairs|NaN"):
        asyncio.run(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY))


def test_a_missing_query_says_so() -> None:
    """Nodes without a query, or with a blank one, raise a ValueError that names it, and no model is looked for."""
    postprocessor = RerankPostprocessor(model="no/such-model")
    with pytest.raises(ValueError, match="Missing query bundle") as caught:
        postprocessor.postprocess_nodes(nodes())
    assert isinstance(caught.value, InvalidInputError)
    with pytest.raises(InvalidInputError, match="query is blank"):
        postprocessor.postprocess_nodes(nodes(), query_str=" ")


def test_a_bare_node_is_named() -> None:
    """A node without its wrapper is an error that says how to wrap it."""
    wrong: Any = [*nodes(), TextNode(text="bare")]
    with pytest.raises(InvalidInputError, match=r"got TextNode at position 3 .*NodeWithScore\(node=node\)"):
        by_length().postprocess_nodes(wrong, query_str=QUERY)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((nodes(), "a text"), "must be a QueryBundle, got str. Give a text as query_str="),
        ((None, QueryBundle(QUERY)), "must be a list of NodeWithScore, got NoneType"),
        ((nodes()[0], QueryBundle(QUERY)), "must be a list of NodeWithScore, got NodeWithScore"),
        (([NodeWithScore(node=Textless(text="x", id_="t"))], QueryBundle(QUERY)), r"Textless \(id t\) gave NoneType"),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: Any, message: str) -> None:
    """A text in the place of the query bundle, and no nodes at all, are named."""
    with pytest.raises(InvalidInputError, match=message):
        by_length().postprocess_nodes(*arguments)


def test_any_iterable_of_nodes_is_read() -> None:
    """A generator gives what a list gives."""
    expected = by_length().postprocess_nodes(nodes(), query_str=QUERY)
    some: Any = (node for node in nodes())
    assert by_length().postprocess_nodes(some, query_str=QUERY) == expected


def test_an_empty_list_loads_no_model() -> None:
    """Nothing in, nothing out, and a model that does not exist is never looked for; nor is it for top_n=0."""
    postprocessor = RerankPostprocessor(model="no/such-model")
    assert postprocessor.postprocess_nodes([], query_str=QUERY) == []
    assert postprocessor.postprocess_nodes([], query_str="") == []
    assert asyncio.run(postprocessor.apostprocess_nodes([], query_str=QUERY)) == []
    postprocessor.top_n = 0
    assert postprocessor.postprocess_nodes(nodes(), query_str=QUERY) == []
    assert asyncio.run(postprocessor.apostprocess_nodes(nodes(), query_str=QUERY)) == []


def test_scores_do_not_depend_on_the_other_nodes(box: Reranker) -> None:
    """A node gets the same score alone, among others, and beside duplicates; in int8, within what padding moves."""
    postprocessor = RerankPostprocessor(reranker=box, top_n=None)
    (alone,) = postprocessor.postprocess_nodes(nodes()[1:2], query_str=QUERY)
    among = postprocessor.postprocess_nodes([*nodes(), *nodes()], query_str=QUERY)
    assert [node.score for node in among if node.node_id == "n1"] == pytest.approx([alone.score] * 2, abs=2e-3)


@given(st.lists(st.text(max_size=30), max_size=8), st.one_of(st.none(), st.integers(0, 9)))
def test_any_texts_come_back_scored_and_sorted(texts: list[str], top_n: int | None) -> None:
    """Whatever the texts are, as many as top_n come back, each with its own id, by falling score."""
    held = [NodeWithScore(node=TextNode(text=text, id_=str(n))) for n, text in enumerate(texts)]
    best = by_length(top_n=top_n).postprocess_nodes(held, query_str=QUERY)
    assert len(best) == (len(texts) if top_n is None else min(top_n, len(texts)))
    assert all(node.text == texts[int(node.node_id)] for node in best)
    assert [node.score for node in best] == sorted((node.get_score() for node in best), reverse=True)
