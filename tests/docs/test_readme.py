"""The READMEs: their code runs, in both languages, and their commands exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import typer.main
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

from rerank_plugins.cli import app

ROOT = Path(__file__).parents[2]
TEXTS = ["Apples are a healthy fruit, rich in fibre.", "The iPhone 15 Pro has a frame of titanium."]
READMES = ("README.md", "README.zh-CN.md")


def block(name: str, word: str) -> str:
    """The one Python block of a README that holds ``word``."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = [code for code in blocks if word in code]
    return str(code)


@pytest.mark.parametrize("name", READMES)
def test_the_plain_python_example_prints_the_answer_first(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """It prints both documents, the one that answers first."""
    exec(block(name, "load_reranker"), {})  # noqa: S102 - running it is the test
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("titanium.")
    assert first.startswith("1 ")
    assert second.startswith("0 ")


@pytest.mark.parametrize("name", READMES)
def test_the_langchain_example_retrieves_and_reranks(name: str) -> None:
    """With any vector store it gives the document that answers first, with its score."""
    store = InMemoryVectorStore.from_texts(TEXTS, DeterministicFakeEmbedding(size=8))
    names: dict[str, object] = {"vector_store": store}
    exec(block(name, "RerankCompressor"), names)  # noqa: S102 - running it is the test
    documents = names["documents"]
    assert isinstance(documents, list)
    assert [document.page_content for document in documents] == TEXTS[::-1]
    assert documents[0].metadata["relevance_score"] > documents[1].metadata["relevance_score"]


@pytest.mark.parametrize("name", READMES)
def test_the_llama_index_example_answers_from_the_right_source(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With any index the first source of the response is the node that answers."""
    monkeypatch.setattr(Settings, "_llm", MockLLM())
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=MockEmbedding(embed_dim=8))
    names: dict[str, object] = {"index": index}
    exec(block(name, "RerankPostprocessor"), names)  # noqa: S102 - running it is the test
    sources = names["response"].source_nodes  # type: ignore[attr-defined]
    assert [node.text for node in sources] == TEXTS[::-1]


@pytest.mark.parametrize("pattern", [r"```python\n(.*?)```", r"<!-- results.*?/results -->", r"^    ([a-z][^#\n]*)"])
def test_both_readmes_show_the_same_code_numbers_and_commands(pattern: str) -> None:
    """The Chinese README has the English one's Python code, results and commands; comments are translated."""
    english, chinese = (
        sorted(
            re.sub(r" *#.*", "", found).strip().replace("<this repository>", "<本仓库>")
            for found in re.findall(pattern, (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
        )
        for name in READMES
    )
    assert english
    assert english == chinese


def test_the_commands_of_the_readme_exist() -> None:
    """Every `make TARGET` and every `rerank-plugins COMMAND` in a code block is there."""
    blocks = "\n".join(re.findall(r"^    .*", (ROOT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    assert set(re.findall(r"^    make ([a-z-]+)", blocks, flags=re.MULTILINE)) <= set(targets)
    assert set(re.findall(r"^    rerank-plugins ([a-z]+)", blocks, flags=re.MULTILINE)) <= commands.keys()
