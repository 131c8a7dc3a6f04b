"""The public API as a type checker sees it: checked by mypy, never run."""

from __future__ import annotations

from typing import assert_type

from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from llama_index.core.schema import MetadataMode, NodeWithScore

from rerank_plugins import Highlight, Pair, RankedResult, Reranker, Scorer, load_reranker
from rerank_plugins.evaluation.verification import Verification, verify
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder, RerankMiddleware, RerankRetriever
from rerank_plugins.llama_index import RerankPostprocessor


class Constant:
    """The smallest scorer."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One score a pair."""
        return [0.0 for _ in pairs]


scorer: Scorer = Constant()
assert_type(load_reranker("rerank-mini-en", engine="openvino", precision="int8"), Reranker)
assert_type(Reranker(scorer).rerank("query", ["a"], highlight=True)[0].highlight, Highlight | None)
assert_type(Reranker(scorer, scale="probability").rerank("query", ("a", "b"), top_n=1), list[RankedResult])


async def ranked() -> list[RankedResult]:
    """The async method returns the same."""
    return await Reranker(scorer).arerank("query", (text for text in ("a", "b")), score_threshold=0.5)


load_reranker("rerank-mini-en", use_fp16=True)  # type: ignore[call-arg]
load_reranker("rerank-mini-en", precision="half")  # type: ignore[arg-type]

compressor = RerankCompressor(reranker=scorer, top_n=None, rank_fields=("title",), document_text=None, highlight=True)
assert_type(compressor.compress_documents([], "query", None, top_n=2), list[Document])
assert_type(compressor.invoke({"documents": [], "query": "query"}, top_n=2), list[Document])
assert_type(RerankCrossEncoder(model="rerank-mini-en").score([("query", "text")]), list[float])
RerankMiddleware(compressor, tools=["search"], question="user")
RerankCompressor(top_k=3)  # type: ignore[call-arg]
compressor.compress_documents([], "query", top_n="3")  # type: ignore[arg-type]


def reranked(base: BaseRetriever) -> list[Document]:
    """A retriever takes the compressor's fields, or a compressor."""
    RerankRetriever(base_retriever=base, model="rerank-mini-en", top_n=3, engine="openvino")
    return RerankRetriever(base_retriever=base, compressor=compressor, fetch_k=20).invoke("query")


postprocessor = RerankPostprocessor(reranker=scorer, top_n=None, metadata_mode=MetadataMode.LLM, highlight=True)
assert_type(postprocessor.postprocess_nodes([], query_str="query"), list[NodeWithScore])
RerankPostprocessor(top_k=3)  # type: ignore[call-arg]
assert_type(verify(Reranker(scorer), "bge-reranker-v2-m3", precision="int8"), Verification)
