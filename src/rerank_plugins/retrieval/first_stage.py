"""First-stage candidates, by exact search over embeddings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.embedder import Embedder

# Texts embedded between two updates of a progress bar.
_BATCH = 1024


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Candidates by query id: passage ids with the retriever's scores, best first."""

    name: str
    candidates: dict[str, list[tuple[str, float]]]


def retrieve(
    collection: Collection,
    embedder: Embedder,
    *,
    name: str,
    fetch_k: int = 50,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> FirstStage:
    """The ``fetch_k`` passages of the largest inner product, for every query with qrels, or for all if none has any.

    Exact search, as in FAISS's IndexFlatIP; equal products keep the corpus's order. ``progress`` is called with the
    number of texts embedded and the number of all texts.
    """
    import numpy as np

    queries = {query: text for query, text in collection.queries.items() if query in collection.qrels}
    queries = queries or collection.queries
    texts, ids = [*collection.passages.values(), *queries.values()], list(collection.passages)
    batches = []
    for start in range(0, len(texts), _BATCH):
        batches.append(embedder(texts[start : start + _BATCH]))
        progress(min(start + _BATCH, len(texts)), len(texts))
    vectors = np.concatenate(batches)
    candidates = {}
    for query, vector in zip(queries, vectors[len(ids) :], strict=True):
        products = vectors[: len(ids)] @ vector
        best = np.argsort(-products, kind="stable")[:fetch_k]
        candidates[query] = [(ids[position], float(products[position])) for position in best]
    return FirstStage(name, candidates)
