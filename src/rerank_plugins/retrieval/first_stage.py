"""First-stage candidates: from an embedder by exact search, or from a TREC run file."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rerank_plugins._internal.text import read_file, read_lines
from rerank_plugins.errors import InvalidInputError
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


def read_run_file(path: Path, collection: Collection, *, fetch_k: int = 50) -> FirstStage:
    """The ``fetch_k`` best of each query in a TREC run file: ``query Q0 passage rank score name`` a line.

    They are ordered by score, as in trec_eval, and by rank where scores are equal. Queries without qrels are skipped
    if the collection has any qrels. (`ir_measures.read_trec_run` drops the ranks and names no line of a wrong file.)

    Raises:
        InvalidInputError: A line has another format, or names a query or a passage that the collection does not have.
    """
    places: dict[str, dict[str, tuple[float, float]]] = {}
    for number, line in read_lines(read_file(path), str(path)):
        query, passage, place = _parse_run_line(line, f"{path}, line {number}")
        for kind, name, known in (("query", query, collection.queries), ("passage", passage, collection.passages)):
            if name not in known:
                raise InvalidInputError(
                    f"{path}, line {number} names the {kind} {name!r}, which {collection.name} does not have. "
                    f"Give the run of this collection."
                )
        if collection.qrels and query not in collection.qrels:
            continue
        if places.setdefault(query, {}).setdefault(passage, place) is not place:
            raise InvalidInputError(
                f"{path}, line {number} has {passage!r} a second time for the query {query!r}. Give each passage once."
            )
    if not places:
        raise InvalidInputError(f"{path} has no judged query of {collection.name}. Give the run of this collection.")
    candidates = {}
    for query, of in places.items():
        candidates[query] = [(passage, -of[passage][0]) for passage in sorted(of, key=of.__getitem__)[:fetch_k]]
    return FirstStage(path.name, candidates)


def _parse_run_line(line: str, source: str) -> tuple[str, str, tuple[float, float]]:
    """Query id, passage id and the sort key: the negative score, then the rank."""
    # With tabs between the values, ids may have spaces: file names often do.
    cells = [cell.strip() for cell in line.split("\t")] if "\t" in line else line.split()
    try:
        query, _, passage, rank, score, _ = cells
        place = (-float(score), float(rank))
        if not all(map(math.isfinite, place)):
            raise ValueError(line)  # noqa: TRY301 - the same kind as float() raises
    except ValueError as exc:
        raise InvalidInputError(
            f"{source} is {line[:80]!r}. Expected a line of a TREC run: query-id Q0 passage-id rank score name, six "
            f"values with spaces between them, or with tabs where ids have spaces; rank and score are finite numbers."
        ) from exc
    return query, passage, place
