"""What the example pipelines share, without the pipelines."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from rerank_plugins import InvalidInputError
from rerank_plugins.demo import rag as demo

CHINESE = Path(__file__).parents[2] / "examples/data/chinese/corpus.jsonl"


@pytest.mark.parametrize(
    ("lines", "message"),
    [("{broken", "line 1 is not JSON"), ('{"title": "no text"}', "no string field 'text'"), ("\n", "no passages")],
)
def test_a_corpus_that_cannot_be_read_names_the_line(tmp_path: Path, lines: str, message: str) -> None:
    """A file that is not JSON lines with text is an error that says where and what is wrong."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text(lines, encoding="utf-8")
    with pytest.raises(InvalidInputError, match=message):
        demo.read_corpus(corpus)


@pytest.mark.parametrize(
    ("asked", "chinese", "model"),
    [
        (["--query", "苹果公司最新发布的手机"], True, "BAAI/bge-reranker-v2-m3"),
        (["--corpus", str(CHINESE)], True, "BAAI/bge-reranker-v2-m3"),
        (["--corpus", str(CHINESE), "--model", "rerank-mini-en"], True, "rerank-mini-en"),
        ([], False, "rerank-mini-en"),
    ],
)
def test_chinese_is_noticed(monkeypatch: pytest.MonkeyPatch, asked: list[str], chinese: bool, model: str) -> None:  # noqa: FBT001
    """A Chinese question or corpus takes the multilingual model, unless one is named."""
    monkeypatch.setattr(sys, "argv", ["rag.py", *asked])
    options = demo.pipeline_options("")
    assert (options.chinese, options.model) == (chinese, model)


def test_the_models_in_the_box_warn_when_asked_in_chinese() -> None:
    """The reranker says that its scores mean nothing, the embedder what it misses, and both what to use."""
    printed = io.StringIO()
    demo.show_chinese_warnings(Console(file=printed), "rerank-mini-en", "embed-static-en")
    reranker, embedder = printed.getvalue().splitlines()
    assert "reads English only" in reranker
    assert "hf download BAAI/bge-reranker-v2-m3" in reranker
    assert "--embedder BAAI/bge-m3" in embedder


def test_models_that_read_chinese_bring_no_warning() -> None:
    """Nothing is said of models other than those in the box."""
    printed = io.StringIO()
    demo.show_chinese_warnings(Console(file=printed), "BAAI/bge-reranker-v2-m3", "BAAI/bge-m3")
    assert not printed.getvalue()
