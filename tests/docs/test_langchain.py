"""docs/langchain.md runs as it stands."""

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
    """What the page prints of recipe 1 is two ids with their scores, the phone's first."""
    first, second = names["printed"][:2]
    assert first.startswith("phone ")
    assert float(first.split()[1]) > float(second.split()[1])


def test_rank_fields_find_what_the_text_does_not_say(names: dict[str, Any]) -> None:
    """Only its title says which phone the battery belongs to; a callable can say it as well."""
    assert names["battery"].id == "battery"
    assert names["battery"].metadata["truncated"] is False
    assert names["dated"].document_text(names["battery"]) == "2023: Its battery lasts for a day."


def test_the_best_sentence_is_marked(names: dict[str, Any]) -> None:
    """The recipe prints the sentence that answers, by its offsets."""
    assert names["phone"].metadata["highlight"]["text"] in names["printed"]
    assert names["printed"].count("The iPhone 15 Pro has a frame of titanium.") == 1


def test_top_n_of_a_request_holds(names: dict[str, Any]) -> None:
    """The configured call of the page gave one document, the phone's; two calls at once gave each its own."""
    assert [document.id for document in names["one"]] == ["phone"]
    assert [found[0].id for found in names["answers"]] == ["phone", "fruit"]


def test_the_agents_model_reads_the_reranked_passages(names: dict[str, Any]) -> None:
    """What the tool gave to the model is the sources' text, best first, and no more than top_n."""
    last = names["asked"][-1][1]["messages"][-1]
    assert last["role"] == "tool"
    assert last["content"].split("\n\n") == [document.page_content for document in names["sources"]]
    assert [len(names["sources"]), names["sources"][0].id] == [2, "phone"]


def test_the_stock_reranker_has_our_order(names: dict[str, Any]) -> None:
    """CrossEncoderReranker over RerankCrossEncoder keeps three, the phone first."""
    assert [len(names["best"]), names["best"][0].id] == [3, "phone"]
