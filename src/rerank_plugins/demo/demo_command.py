"""`rerank-plugins demo`: FAISS top 50, rerank, top 5, answer, in plain Python, with the models in the box."""

from __future__ import annotations

import time
from typing import Annotated

import typer
from rich.console import Console

from rerank_plugins.demo import rag as shared
from rerank_plugins.errors import MissingExtraError
from rerank_plugins.highlights import check_highlight, written
from rerank_plugins.loading import load_reranker
from rerank_plugins.retrieval.embedder import BOX_EMBEDDER, load_embedder


def demo(
    query: Annotated[str, typer.Argument(help="A question to the example corpus.")] = shared.DEFAULT_QUERY,
    model: Annotated[str, typer.Option(help="A folder, rerank-mini-en, or a name on the hub.")] = shared.BOX_RERANKER,
) -> None:
    """Retrieve, rerank and answer a question, and show what reranking changed."""
    try:
        import faiss
    except ImportError as exc:
        raise MissingExtraError("faiss", "The demo's index", str(exc.name)) from exc
    check_highlight(highlight=True)
    console = Console()
    if shared.is_chinese(query):
        shared.show_chinese_warnings(console, model, BOX_EMBEDDER)
    passages = shared.read_corpus(shared.example_corpus())
    embed = load_embedder(BOX_EMBEDDER)
    vectors = embed([passage.text for passage in passages])
    index = faiss.IndexFlatIP(vectors.shape[1])
    index.add(vectors)
    reranker = load_reranker(model)

    console.print(f"Question to {len(passages)} passages: {query}\n", markup=False)
    start = time.perf_counter()
    _, found = index.search(embed([query]), shared.CANDIDATES)
    candidates = [passages[position] for position in found[0]]
    retrieved = time.perf_counter()
    results = reranker.rerank(query, [passage.text for passage in candidates], top_n=shared.KEPT, highlight=True)
    reranked = time.perf_counter()

    best = [shared.Placed(result.index, result.score) for result in results if result.score is not None]
    shared.show_comparison(console, [passage.title for passage in candidates], best)
    shared.show_timings(console, retrieval=retrieved - start, reranking_with_highlights=reranked - retrieved)
    kept = [candidates[placed.position] for placed in best]
    answer = shared.extractive_answer(reranker, query, [passage.text for passage in kept])
    sources = [shared.Source(candidates[result.index].title, written(result)) for result in results]
    shared.show_answer(console, answer, "extractive: the best-scoring sentences, no LLM", sources)
