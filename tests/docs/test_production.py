"""docs/production.md: its code runs, and it names what can be watched and set."""

from __future__ import annotations

from dataclasses import fields
from inspect import signature
from typing import Any

import pytest

from doc_pages import DOCS, names_left_by
from rerank_plugins import Reranker, Stats
from rerank_plugins._internal.telemetry import CallMetrics
from rerank_plugins.langchain import RerankCompressor, RerankRetriever
from rerank_plugins.llama_index import RerankPostprocessor

PAGE = (DOCS / "production.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def names() -> dict[str, Any]:
    return names_left_by("production.md")


def test_the_pages_code_ranks_and_meets_its_deadlines(names: dict[str, Any]) -> None:
    """The calls with time and a working model have scores; the late and the failing one keep the order without."""
    assert names["results"][0].index == 1
    assert names["unscored"] == []
    assert [result.score for result in names["late"] + names["unranked"]] == [None] * 4
    assert names["printed"][0].startswith("2 requests, 4 pairs, ")
    names["reranker"].close()


def test_the_page_names_every_counter_and_instrument() -> None:
    """Every field of Stats and every instrument of OpenTelemetry is on the page."""
    assert [field.name for field in fields(Stats) if f"`{field.name}`" not in PAGE] == []
    source = (DOCS.parent / "src" / "rerank_plugins" / "_internal" / "telemetry.py").read_text(encoding="utf-8")
    instruments = [part.split('"')[1] for part in source.split("meter.create_")[1:]]
    assert len(instruments) == 4
    assert [name for name in instruments if f"`{name}`" not in PAGE] == []


def test_the_page_names_every_attribute_of_a_span() -> None:
    """Every attribute is on the page, in full or without the prefix that they share."""
    names = [name.removeprefix("rerank_plugins") for name in CallMetrics().attributes()]
    assert [name for name in names if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("adapter", [RerankCompressor, RerankRetriever, RerankPostprocessor])
def test_deadlines_and_fallbacks_are_fields_of_the_adapters(adapter: type[RerankCompressor]) -> None:
    """All three have the defaults of Reranker.rerank, and are on the page."""
    model_fields, parameters = adapter.model_fields, signature(Reranker.rerank).parameters
    for name in ("deadline", "on_deadline", "on_error"):
        assert f"`{name}" in PAGE
        assert model_fields[name].default == parameters[name].default
