"""docs/langchain.md runs as it stands."""

from __future__ import annotations

import io
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from llm_server import ANSWER, chat_server

PAGE = Path(__file__).parents[2] / "docs" / "langchain.md"


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    """What the page's code leaves behind, run from top to bottom against a chat server on loopback."""
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL))
    found: dict[str, Any] = {}
    output = io.StringIO()
    with chat_server() as server, pytest.MonkeyPatch.context() as environment, redirect_stdout(output):
        environment.setenv("OPENAI_API_KEY", "none")
        environment.setenv("OPENAI_BASE_URL", f"{server.url}/v1")
        exec(compile(code, str(PAGE), "exec"), found)  # noqa: S102 - running it is the test
        found["asked"] = list(server.asked)
    found["printed"] = output.getvalue()
    return found


def test_the_chain_answers_from_the_reranked_passages(names: dict[str, Any]) -> None:
    """The first prompt has the passage that answers as [1], and the model's answer comes back."""
    prompt = names["asked"][0][1]["messages"][-1]["content"]
    assert prompt.startswith("[1] The iPhone 15 Pro has a frame of titanium.")
    assert names["answer"] == ANSWER


def test_the_compressor_as_a_step_puts_the_phone_first(names: dict[str, Any]) -> None:
    """What the page prints of recipe 1 is two ids with their scores, the phone's first."""
    first, second = names["printed"].splitlines()[:2]
    assert first.startswith("phone ")
    assert float(first.split()[1]) > float(second.split()[1])


def test_rank_fields_find_what_the_text_does_not_say(names: dict[str, Any]) -> None:
    """Only its title says which phone the battery belongs to; a callable can say it as well."""
    assert names["battery"].id == "battery"
    assert names["battery"].metadata["truncated"] is False
    assert names["dated"].document_text(names["battery"]) == "2023: Its battery lasts for a day."


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
