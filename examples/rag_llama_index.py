"""FAISS top 50 → rerank → top 5 → LLM, in LlamaIndex.

python examples/rag_llama_index.py
python examples/rag_llama_index.py --query "How do I keep coffee beans fresh?" --llm ollama:llama3.2
python examples/rag_llama_index.py --corpus examples/data/chinese/corpus.jsonl --query 苹果公司最新发布的手机
"""

from __future__ import annotations

import os
import sys
import time
from typing import Any

import faiss
from llama_index.core import StorageContext, VectorStoreIndex, get_response_synthesizer
from llama_index.core.embeddings import BaseEmbedding
from llama_index.core.llms import LLM
from llama_index.core.schema import TextNode
from llama_index.vector_stores.faiss import FaissVectorStore
from rich.console import Console

from rerank_plugins import RerankError, load_reranker
from rerank_plugins.demo import rag as demo
from rerank_plugins.llama_index import RerankPostprocessor
from rerank_plugins.retrieval import load_embedder


class Embedding(BaseEmbedding):
    """The example's embedder as a LlamaIndex embedding. Use any other LlamaIndex embedding instead."""

    encode: Any

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.encode(texts).tolist()
        return vectors

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return self._get_text_embedding(query)


def chat_model(llm: str, url: str | None) -> LLM:
    """Create LlamaIndex's client for ``openai:NAME`` (or any OpenAI-compatible server) or ``ollama:NAME``."""
    provider, _, name = llm.partition(":")
    if provider == "ollama":
        from llama_index.llms.ollama import Ollama

        return Ollama(model=name, base_url=url or "http://localhost:11434", temperature=0, request_timeout=120)
    from llama_index.llms.openai_like import OpenAILike

    # Your own server usually needs no key, but the client requires one.
    key = os.environ.get("OPENAI_API_KEY") or ("none" if url else None)
    if key is None:
        message = "OPENAI_API_KEY is not set"
        raise ValueError(message)
    base = url or "https://api.openai.com/v1"
    return OpenAILike(
        model=name, api_base=base, api_key=key, is_chat_model=True, context_window=16_384, temperature=0, max_retries=1
    )


def main() -> None:
    """Retrieve, rerank, show the changes, answer."""
    options = demo.pipeline_options("FAISS top 50, rerank, top 5, answer: in LlamaIndex.")
    console = Console()
    console.rule("[bold]LlamaIndex")
    if options.chinese:
        demo.show_chinese_warnings(console, options.model, options.embedder)
    nodes = [
        TextNode(id_=p.id, text=p.text, metadata={"title": p.title}, excluded_embed_metadata_keys=["title"])
        for p in options.passages
    ]
    embedding = Embedding(encode=load_embedder(options.embedder), embed_batch_size=512)
    store = FaissVectorStore(faiss_index=faiss.IndexFlatIP(len(embedding.get_text_embedding("dimensions"))))
    storage = StorageContext.from_defaults(vector_store=store)
    retriever = VectorStoreIndex(nodes, storage_context=storage, embed_model=embedding).as_retriever(
        similarity_top_k=min(demo.FETCH_K, len(nodes))
    )
    reranker = load_reranker(options.model)
    postprocessor = RerankPostprocessor(reranker=reranker, top_n=demo.TOP_N, highlight=True)
    # In a query engine the two are one: index.as_query_engine(similarity_top_k=50,
    # node_postprocessors=[postprocessor]). Here they run one after the other, to be timed and shown.
    console.print(f"Question: {options.query}\n", markup=False)
    start = time.perf_counter()
    candidates = retriever.retrieve(options.query)
    retrieved = time.perf_counter()
    best = postprocessor.postprocess_nodes(candidates, query_str=options.query)
    reranked = time.perf_counter()

    position = {node.node_id: place for place, node in enumerate(candidates)}
    placed = [demo.Placement(position[node.node_id], node.get_score()) for node in best]
    demo.show_comparison(console, [node.metadata["title"] for node in candidates], placed)
    demo.show_timings(console, retrieval=retrieved - start, reranking_with_highlights=reranked - retrieved)
    sources = [demo.Source(node.metadata["title"], node.metadata["highlight"]) for node in best]
    if not options.llm:
        answer = demo.extractive_answer(reranker, options.query, [node.node.get_content() for node in best])
        demo.show_answer(console, answer, "extractive: the best-scoring sentences, no LLM", sources)
        return
    try:
        synthesizer = get_response_synthesizer(llm=chat_model(options.llm, options.llm_url))
        answer = str(synthesizer.synthesize(options.query, nodes=best))
    except Exception as exc:  # noqa: BLE001 - each client has its own errors, and the user needs the same advice for all
        sys.exit(demo.llm_failure(options.llm, options.llm_url, exc))
    demo.show_answer(console, answer, options.llm, sources)


if __name__ == "__main__":
    try:
        main()
    except RerankError as error:
        sys.exit(str(error))
