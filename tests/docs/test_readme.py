"""The README's code, in both languages, runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore
from llama_index.core import MockEmbedding, Settings, VectorStoreIndex
from llama_index.core.llms import MockLLM
from llama_index.core.schema import TextNode

ROOT = Path(__file__).parents[2]
TEXTS = ["Apples are a healthy fruit, rich in fibre.", "The iPhone 15 Pro has a frame of titanium."]
READMES = ("README.md", "README.zh-CN.md")


def block(name: str, word: str) -> str:
    """The one Python block of a README that holds ``word``."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), flags=re.DOTALL)
    (found,) = [code for code in blocks if word in code]
    return str(found)


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


def test_both_readmes_show_the_same_code_and_numbers() -> None:
    """The Chinese README has the English one's commands, examples and results."""
    english, chinese = ((ROOT / name).read_text(encoding="utf-8") for name in READMES)
    pattern = r"<!-- results.*?/results -->"
    assert re.findall(pattern, english, flags=re.DOTALL) == re.findall(pattern, chinese, flags=re.DOTALL)
    for heading in ("make demo", "make test", "rerank-plugins doctor", "rerank-plugins rank"):
        assert heading in english
        assert heading in chinese
