"""The code of docs/langchain.md runs."""

from __future__ import annotations

from typing import Any

import pytest

from doc_pages import names_left_by
from llm_server import ANSWER


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return names_left_by("langchain.md")


def test_the_chain_answers_from_the_reranked_passages(names: dict[str, Any]) -> None:
    """The first prompt has the passage that answers as [1], and the model's answer comes back."""
    prompt = names["asked"][0][1]["messages"][-1]["content"]
    assert prompt.startswith("[1] The iPhone 15 Pro has a frame of titanium.")
    assert names["answer"] == ANSWER


def test_the_compressor_as_a_step_puts_the_phone_first(names: dict[str, Any]) -> None:
    """The page prints two ids with their scores, the phone's first."""
    first, second = names["printed"][:2]
    assert first.startswith("phone ")
    assert float(first.split()[1]) > float(second.split()[1])


def test_rank_fields_and_document_text_add_metadata_to_the_text(names: dict[str, Any]) -> None:
    """The battery is found by its title, and a callable gives its own text."""
    assert names["battery"].id == "battery"
    assert names["battery"].metadata["truncated"] is False
    assert names["dated"].document_text(names["battery"]) == "2023: Its battery lasts for a day."


def test_the_best_sentence_is_marked(names: dict[str, Any]) -> None:
    """The recipe prints the sentence that answers, by its offsets."""
    assert names["phone"].metadata["highlight"]["text"] in names["printed"]
    assert names["printed"].count("The iPhone 15 Pro has a frame of titanium.") == 1


def test_top_n_can_be_set_per_request(names: dict[str, Any]) -> None:
    """The configured call returned one document, the phone's; two concurrent calls returned their own."""
    assert [document.id for document in names["one"]] == ["phone"]
    assert [documents[0].id for documents in names["answers"]] == ["phone", "fruit"]


def test_the_agents_model_reads_the_reranked_passages(names: dict[str, Any]) -> None:
    """The tool's message is the text of the sources, best first, and no more than top_n."""
    last = names["asked"][-1][1]["messages"][-1]
    assert last["role"] == "tool"
    assert last["content"].split("\n\n") == [document.page_content for document in names["sources"]]
    assert [len(names["sources"]), names["sources"][0].id] == [2, "phone"]


def test_the_stock_reranker_has_our_order(names: dict[str, Any]) -> None:
    """CrossEncoderReranker over RerankCrossEncoder keeps three, the phone first."""
    assert [len(names["best"]), names["best"][0].id] == [3, "phone"]
