"""The command line that the example pipelines share."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from rerank_plugins.demo.rag import pipeline_options

CHINESE = Path(__file__).parents[2] / "examples/data/chinese/corpus.jsonl"


@pytest.mark.parametrize(
    ("arguments", "chinese", "model"),
    [
        (["--query", "苹果公司最新发布的手机"], True, "BAAI/bge-reranker-v2-m3"),
        (["--corpus", str(CHINESE)], True, "BAAI/bge-reranker-v2-m3"),
        (["--corpus", str(CHINESE), "--model", "rerank-mini-en"], True, "rerank-mini-en"),
        ([], False, "rerank-mini-en"),
    ],
)
def test_chinese_text_chooses_the_multilingual_model(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], chinese: object, model: str
) -> None:
    """A Chinese question or corpus takes the multilingual model, unless one is named."""
    monkeypatch.setattr(sys, "argv", ["rag.py", *arguments])
    options = pipeline_options("")
    assert (options.chinese, options.model) == (chinese, model)
