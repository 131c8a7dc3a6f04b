"""nDCG@10, RR@10 and recall of orders, by ir-measures."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.evaluation.results import METRICS

try:
    import ir_measures
except ImportError as exc:
    raise MissingExtraError("eval", "An evaluation", str(exc.name)) from exc

Order = Sequence[int]
"""Positions of a query's candidates, best first."""

PerQuery = dict[str, dict[str, float]]
"""By metric, then by query id."""


def measured(queries: Sequence[JudgedQuery], orders: Sequence[Order], metrics: Sequence[str] = METRICS) -> PerQuery:
    """``metrics``, by their names in ir-measures, of one order a query.

    Grades are gains as they are; a passage that nobody judged counts as not relevant, a query without a relevant
    candidate as 0.
    """
    # Numbers for ids: trec_eval's C code crashes at half a surrogate pair, which JSON can hold.
    ids = [_numbered(query) for query in queries]
    judgements = {
        str(number): {numbers[passage]: grade for passage, grade in query.grades.items()}
        for number, (query, numbers) in enumerate(zip(queries, ids, strict=True))
    }
    run = {
        str(number): _run([numbers[passage] for passage in query.candidates], order)
        for number, (query, numbers, order) in enumerate(zip(queries, ids, orders, strict=True))
    }
    values: PerQuery = {name: {query.id: 0.0 for query in queries} for name in metrics}
    measures = {ir_measures.parse_measure(name): name for name in metrics}
    for found in ir_measures.iter_calc(list(measures), judgements, run):
        values[measures[found.measure]][queries[int(found.query_id)].id] = found.value
    return values


def recall(queries: Sequence[JudgedQuery], top_k: int) -> float:
    """Mean share of a query's relevant passages that are among its first ``top_k`` candidates."""
    name = f"R@{top_k}"
    return fmean(measured(queries, [range(len(query.candidates)) for query in queries], [name])[name].values())


def _numbered(query: JudgedQuery) -> dict[str, str]:
    return {passage: str(number) for number, passage in enumerate(dict.fromkeys([*query.candidates, *query.grades]))}


def _run(candidates: Sequence[str], order: Order) -> dict[str, float]:
    # Evaluators sort by score and break ties by id: numbers that fall with the rank leave nothing to them.
    return {candidates[position]: float(len(order) - rank) for rank, position in enumerate(order)}
