"""With langchain-core alone, and without warnings."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import sys
for name in {blocked!r}:
    sys.modules[name] = None
import asyncio
from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder, RerankRetriever
given = [Document("apples"), Document("a phone of titanium")]
compressor = RerankCompressor(model="rerank-mini-en", top_n=1)
retriever = RerankRetriever(base_retriever=RunnableLambda(lambda query: given), compressor=compressor)
best = [compressor.compress_documents(given, "phone"), compressor.invoke({{"documents": given, "query": "phone"}}),
        retriever.invoke("phone"), asyncio.run(retriever.ainvoke("phone"))]
assert RerankCrossEncoder(model="rerank-mini-en").score([("phone", "a phone"), ("phone", "apples")])[0] > 0
print({{documents[0].page_content for documents in best}}, [name for name in {unwanted!r} if name in sys.modules])
"""

OPTIONAL = ("langchain", "langchain_classic", "langgraph", "langchain_community", "torch", "transformers")


@pytest.mark.slow
@pytest.mark.parametrize("blocked", [(), OPTIONAL], ids=["with everything", "with langchain-core alone"])
def test_works_without_warnings(blocked: tuple[str, ...]) -> None:
    """Compressor, retriever and cross-encoder work under -W error::DeprecationWarning and load nothing optional."""
    unwanted = () if blocked else OPTIONAL
    done = subprocess.run(
        [sys.executable, "-W", "error::DeprecationWarning", "-c", PROGRAM.format(blocked=blocked, unwanted=unwanted)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.strip() == "{'a phone of titanium'} []", done.stderr
    assert not done.stderr
