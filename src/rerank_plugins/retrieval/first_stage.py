"""What a retriever found before anything was reranked: by an embedder, or read from a TREC run file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rerank_plugins._internal.text import read_file, read_lines
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.embedder import Embedder

# Texts embedded between two movements of a progress bar.
_STEP = 1024


@dataclass(frozen=True, slots=True)
class FirstStage:
    """Candidates by query: passage ids with the retriever's scores, best first."""

    name: str
    candidates: dict[str, list[tuple[str, float]]]


def embedded(
    collection: Collection,
    embedder: Embedder,
    *,
    name: str,
    top_k: int = 50,
    progress: Callable[[int, int], object] = lambda *_: None,
) -> FirstStage:
    """The ``top_k`` passages of the largest inner product, for every judged query, or for all where none is judged.

    Exact search, as in FAISS's IndexFlatIP; equal products keep the corpus's order. ``progress`` is called with how
    many texts are embedded and how many there are.
    """
    import numpy as np

    queries = {name: text for name, text in collection.queries.items() if name in collection.judgements}
    queries = queries or collection.queries
    texts, names = [*collection.passages.values(), *queries.values()], list(collection.passages)
    blocks = []
    for start in range(0, len(texts), _STEP):
        blocks.append(embedder(texts[start : start + _STEP]))
        progress(min(start + _STEP, len(texts)), len(texts))
    vectors = np.concatenate(blocks)
    passages, asked = vectors[: len(names)], vectors[len(names) :]
    candidates = {}
    for query, vector in zip(queries, asked, strict=True):
        products = passages @ vector
        best = np.argsort(-products, kind="stable")[:top_k]
        candidates[query] = [(names[position], float(products[position])) for position in best]
    return FirstStage(name, candidates)


def from_run_file(path: Path, collection: Collection, *, top_k: int = 50) -> FirstStage:
    """The ``top_k`` best of each query in a TREC run file: ``query Q0 passage rank score name`` a line.

    They are ordered by score, as trec_eval does it, and by rank where scores are equal. Queries without judgements are
    passed over where the collection has any.

    Raises:
        InvalidInputError: A line that is none, or names a query or a passage that the collection does not have.
    """
    found: dict[str, dict[str, tuple[float, float]]] = {}
    for number, line in read_lines(read_file(path), str(path)):
        # With tabs, ids may have spaces: file names often do.
        cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
        try:
            query, _, passage, rank, score, _ = cells
            place = (-float(score), float(rank))
            if not all(map(math.isfinite, place)):
                raise ValueError(line)  # noqa: TRY301 - of one kind with what float() raises
        except ValueError as exc:
            raise InvalidInputError(
                f"{path}, line {number} is {line[:80]!r}. Expected a line of a TREC run: "
                f"query-id Q0 passage-id rank score name, six values with spaces between them, or with tabs where ids "
                f"have spaces; rank and score are finite numbers."
            ) from exc
        for kind, name, known in (("query", query, collection.queries), ("passage", passage, collection.passages)):
            if name not in known:
                raise InvalidInputError(
                    f"{path}, line {number} names the {kind} {name!r}, which {collection.name} does not have. "
                    f"Give the run of this collection."
                )
        if collection.judgements and query not in collection.judgements:
            continue
        if found.setdefault(query, {}).setdefault(passage, place) is not place:
            raise InvalidInputError(f"{path}, line {number} has {passage!r} a second time for the query {query!r}.")
    if not found:
        raise InvalidInputError(f"{path} has no judged query of {collection.name}. Give the run of this collection.")
    return FirstStage(
        path.name,
        {
            query: [(passage, -places[passage][0]) for passage in sorted(places, key=places.__getitem__)[:top_k]]
            for query, places in found.items()
        },
    )
