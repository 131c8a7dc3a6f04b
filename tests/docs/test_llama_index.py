"""The code of docs/llama_index.md runs."""

from __future__ import annotations

from typing import Any

import pytest
from llama_index.core import Settings

from doc_pages import names_left_by
from llm_server import ANSWER
from rerank_plugins.llama_index import RerankPostprocessor


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    with pytest.MonkeyPatch.context() as settings:
        settings.setattr(Settings, "_llm", None)  # the page sets it for the whole process
        return names_left_by("llama_index.md")


def test_the_query_engine_answers_from_the_two_best_nodes(names: dict[str, Any]) -> None:
    """The LLM reads the phone's passage first, and of the four nodes no more than two."""
    prompt = str(names["asked"][0][1]["messages"])
    sources = names["response"].source_nodes
    assert (str(names["response"]), [len(sources), sources[0].node_id]) == (ANSWER, [2, "phone"])
    assert [node.text in prompt for node in names["nodes"]].count(True) == 2
    assert names["printed"][0] == f"phone {sources[0].score}"


def test_the_chat_engine_has_the_same_sources(names: dict[str, Any]) -> None:
    """Its reply has the source nodes of the query engine."""
    assert [node.node_id for node in names["reply"].source_nodes] == [
        node.node_id for node in names["response"].source_nodes
    ]
    assert str(names["reply"]) == ANSWER


def test_below_the_threshold_the_llm_is_not_asked(names: dict[str, Any]) -> None:
    """No node of an unanswerable question passes the threshold; a node of the answered question does."""
    assert names["unanswered"].source_nodes == []
    assert "Nothing in the notes answers that." in names["printed"]
    assert not any("chess" in str(body) for _, body in names["asked"])
    assert names["response"].source_nodes[0].score >= names["strict"].score_threshold


def test_the_best_sentence_is_marked(names: dict[str, Any]) -> None:
    """The recipe prints the sentence that answers, by its offsets, and the node in the index has no mark."""
    assert names["phone"].metadata["highlight"]["text"] == "The iPhone 15 Pro has a frame of titanium."
    assert "The iPhone 15 Pro has a frame of titanium." in names["printed"]
    assert not any("highlight" in node.metadata for node in names["nodes"])


def test_metadata_is_read_unless_it_is_turned_off(names: dict[str, Any]) -> None:
    """With its title the battery's node comes first; by its text alone it has a lower score."""
    (titled,) = names["with_title"]
    assert titled.node_id == "battery"
    bare, with_metadata = (battery_score(names, names[name]) for name in ("bare", "titled"))
    assert bare < with_metadata


def battery_score(names: dict[str, Any], postprocessor: RerankPostprocessor) -> float:
    rank_all = postprocessor.model_copy(update={"top_n": None})
    nodes = rank_all.postprocess_nodes(names["candidates"], query_str=names["question"])
    (score,) = (node.get_score() for node in nodes if node.node_id == "battery")
    return score


def test_the_retrieval_score_stays_out_of_the_index(names: dict[str, Any]) -> None:
    """It is on the result, and not on the node that was put into the index."""
    assert 0 < names["best"].metadata["retrieval_score"] < 1
    assert all("retrieval_score" not in node.metadata for node in names["nodes"])
    assert all("retrieval_score" not in node.metadata for node in names["candidates"])


def test_the_last_migrated_reranker_ranks(names: dict[str, Any]) -> None:
    """It returns three nodes, best first."""
    scores = [node.score for node in names["migrated"]]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
