"""FAISS top 50 → rerank → top 5 → LLM, in LangChain.

python examples/rag_langchain.py
python examples/rag_langchain.py --query "How do I keep coffee beans fresh?" --llm ollama:llama3.2
python examples/rag_langchain.py --corpus examples/data/chinese/corpus.jsonl --query 苹果公司最新发布的手机
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import faiss
import numpy as np
from langchain_core.callbacks import CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.language_models import BaseChatModel
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.retrievers import BaseRetriever
from rich.console import Console

from rerank_plugins import RerankError, load_reranker
from rerank_plugins.demo import rag as demo
from rerank_plugins.langchain import RerankCompressor
from rerank_plugins.retrieval import load_embedder

PROMPT = ChatPromptTemplate.from_messages(
    [
        ("system", "Answer from the numbered passages only, in one or two sentences, and cite them as [n]."),
        ("human", "{passages}\n\nQuestion: {question}"),
    ]
)


class FaissRetriever(BaseRetriever):
    """The first stage: exact search by inner product of unit vectors. Use any LangChain retriever instead."""

    documents: list[Document]
    embedder: Any
    k: int = demo.FETCH_K
    index: Any = None

    def model_post_init(self, context: object, /) -> None:
        """Embed the documents and fill the index."""
        super().model_post_init(context)
        vectors = self.embedder([document.page_content for document in self.documents])
        self.index = faiss.IndexFlatIP(vectors.shape[1])
        self.index.add(vectors)

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - part of LangChain's signature
    ) -> list[Document]:
        _, found = self.index.search(np.asarray(self.embedder([query])), min(self.k, len(self.documents)))
        return [self.documents[position] for position in found[0]]


def chat_model(llm: str, url: str | None) -> BaseChatModel:
    """Create LangChain's client for ``openai:NAME`` (or any OpenAI-compatible server) or ``ollama:NAME``."""
    provider, _, name = llm.partition(":")
    if provider == "ollama":
        from langchain_ollama import ChatOllama

        return ChatOllama(model=name, base_url=url, temperature=0)
    from langchain_openai import ChatOpenAI

    # Your own server usually needs no key, but the client requires one.
    key: Any = os.environ.get("OPENAI_API_KEY") or ("none" if url else None)
    return ChatOpenAI(model=name, base_url=url, api_key=key, temperature=0, max_retries=1)


def number_passages(documents: list[Document]) -> str:
    """Format the passages for the prompt."""
    return "\n\n".join(f"[{n}] {d.metadata['title']}: {d.page_content}" for n, d in enumerate(documents, start=1))


def main() -> None:
    """Retrieve, rerank, show the changes, answer."""
    options = demo.pipeline_options("FAISS top 50, rerank, top 5, answer: in LangChain.")
    console = Console()
    console.rule("[bold]LangChain")
    if options.chinese:
        demo.show_chinese_warnings(console, options.model, options.embedder)
    documents = [Document(p.text, id=p.id, metadata={"title": p.title}) for p in options.passages]
    retriever = FaissRetriever(documents=documents, embedder=load_embedder(options.embedder))
    reranker = load_reranker(options.model)
    compressor = RerankCompressor(reranker=reranker, top_n=demo.TOP_N, highlight=True)
    # In a chain the two are one: ContextualCompressionRetriever(base_compressor=compressor,
    # base_retriever=retriever). Here they run one after the other, to be timed and shown.
    console.print(f"Question: {options.query}\n", markup=False)
    start = time.perf_counter()
    candidates = retriever.invoke(options.query)
    retrieved = time.perf_counter()
    best = list(compressor.compress_documents(candidates, options.query))
    reranked = time.perf_counter()

    position = {document.id: place for place, document in enumerate(candidates)}
    placed = [demo.Placement(position[d.id], d.metadata["relevance_score"]) for d in best]
    demo.show_comparison(console, [d.metadata["title"] for d in candidates], placed)
    demo.show_timings(console, retrieval=retrieved - start, reranking_with_highlights=reranked - retrieved)
    sources = [demo.Source(d.metadata["title"], d.metadata["highlight"]) for d in best]
    if not options.llm:
        answer = demo.extractive_answer(reranker, options.query, [d.page_content for d in best])
        demo.show_answer(console, answer, "extractive: the best-scoring sentences, no LLM", sources)
        return
    try:
        chain = PROMPT | chat_model(options.llm, options.llm_url) | StrOutputParser()
        answer = chain.invoke({"passages": number_passages(best), "question": options.query})
    except Exception as exc:  # noqa: BLE001 - each client has its own errors, and the user needs the same advice for all
        sys.exit(demo.llm_failure(options.llm, options.llm_url, exc))
    demo.show_answer(console, answer, options.llm, sources)


if __name__ == "__main__":
    try:
        main()
    except RerankError as error:
        sys.exit(str(error))
