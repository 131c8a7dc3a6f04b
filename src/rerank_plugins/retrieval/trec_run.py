"""First-stage candidates from a TREC run file, as retrieval tools write them."""

from __future__ import annotations

import math
from pathlib import Path

from rerank_plugins._internal.text import read_file, read_lines
from rerank_plugins.errors import InvalidInputError
from rerank_plugins.retrieval.beir import Collection
from rerank_plugins.retrieval.first_stage import FirstStage


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
