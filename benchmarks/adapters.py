"""What an adapter adds to `Reranker.rerank`: the same 50 documents, a scorer that costs nothing.

The paths are interleaved, so that a busy machine slows all of them alike; medians in microseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Callable

from langchain_core.documents import Document
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from llama_index.core.schema import NodeWithScore, TextNode

from rerank_plugins import Pair, Reranker
from rerank_plugins.langchain import RerankCompressor, RerankRetriever
from rerank_plugins.llama_index import RerankPostprocessor

QUERY = "how should coffee beans be stored"
TEXTS = [f"Passage {n} says something about coffee, beans and how they are stored." for n in range(50)]


class Counts:
    """The cheapest scorer."""

    def score(self, pairs: list[Pair], /) -> list[float]:
        """Falling scores, whatever the texts."""
        return [-float(n) for n in range(len(pairs))]


def paths() -> dict[str, Callable[[], object]]:
    """Everything that is timed, by name."""
    reranker = Reranker(Counts())
    documents = [Document(text, id=str(n), metadata={"source": n}) for n, text in enumerate(TEXTS)]
    compressor = RerankCompressor(reranker=reranker, top_n=5)
    nodes = [NodeWithScore(node=TextNode(text=text, metadata={"source": n}), score=0.5) for n, text in enumerate(TEXTS)]
    postprocessor = RerankPostprocessor(reranker=reranker, top_n=5)
    keeping = RerankPostprocessor(reranker=reranker, top_n=None, keep_retrieval_score=True)
    retriever = RerankRetriever(base_retriever=RunnableLambda(lambda _: documents), compressor=compressor)

    def traced() -> object:
        return compressor.compress_documents(documents, QUERY, [RunCollectorCallbackHandler()])

    # A path is compared with the last one before it whose name begins with "Reranker.".
    return {
        "Reranker.rerank, top 5 of 50": lambda: reranker.rerank(QUERY, TEXTS, top_n=5),
        "RerankCompressor": lambda: compressor.compress_documents(documents, QUERY),
        "RerankCompressor, all 50 kept": lambda: compressor.compress_documents(documents, QUERY, top_n=None),
        "RerankCompressor, traced": traced,
        "RerankRetriever": lambda: retriever.invoke(QUERY),
        "RerankPostprocessor": lambda: postprocessor.postprocess_nodes(nodes, query_str=QUERY),
        "RerankPostprocessor, all 50 and their scores kept": lambda: keeping.postprocess_nodes(nodes, query_str=QUERY),
        "Reranker.arerank, in a loop of its own": lambda: asyncio.run(reranker.arerank(QUERY, TEXTS, top_n=5)),
        "RerankCompressor, in a loop of its own": lambda: asyncio.run(compressor.acompress_documents(documents, QUERY)),
        "RerankPostprocessor, in a loop of its own": lambda: asyncio.run(
            postprocessor.apostprocess_nodes(nodes, query_str=QUERY)
        ),
    }


def main() -> None:
    """Time every path and print medians and what each adds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=300)
    args = parser.parse_args()
    timed = paths()
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for call in timed.values():
        call()
    for _ in range(args.rounds):
        for name, call in timed.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: 1e6 * statistics.median(values) for name, values in seconds.items()}
    base = 0.0
    for name, median in medians.items():
        base = median if name.startswith("Reranker.") else base
        print(f"{name:<52} {median:7.0f} us   +{median - base:5.0f} us")


if __name__ == "__main__":
    main()
