"""nDCG@10, RR@10 and recall, computed by ir-measures."""

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

__all__ = ["Order", "PerQuery", "compute_metrics", "recall"]

Order = Sequence[int]
"""Positions of a query's candidates, best first."""

PerQuery = dict[str, dict[str, float]]
"""Values by metric and query id."""


def compute_metrics(
    queries: Sequence[JudgedQuery], orders: Sequence[Order], metrics: Sequence[str] = METRICS
) -> PerQuery:
    """``metrics``, by their names in ir-measures, of one order a query.

    Gains are the grades; a passage without a grade counts as not relevant, a query without a relevant candidate as 0.
    """
    # Numbers as ids: trec_eval's C code crashes at a lone surrogate, which JSON can hold.
    ids = [_number_passages(query) for query in queries]
    qrels = {
        str(number): {numbers[passage]: grade for passage, grade in query.grades.items()}
        for number, (query, numbers) in enumerate(zip(queries, ids, strict=True))
    }
    # Evaluators sort by score and break ties by id. Scores that fall with the rank leave no ties.
    run = {
        str(number): {
            numbers[query.candidates[position]]: float(len(order) - rank) for rank, position in enumerate(order)
        }
        for number, (query, numbers, order) in enumerate(zip(queries, ids, orders, strict=True))
    }
    values: PerQuery = {name: {query.id: 0.0 for query in queries} for name in metrics}
    measures = {ir_measures.parse_measure(name): name for name in metrics}
    for result in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[result.measure]][queries[int(result.query_id)].id] = result.value
    return values


def recall(queries: Sequence[JudgedQuery], fetch_k: int) -> float:
    """The mean share of a query's relevant passages that are among its first ``fetch_k`` candidates."""
    name = f"R@{fetch_k}"
    return fmean(compute_metrics(queries, [range(len(query.candidates)) for query in queries], [name])[name].values())


def _number_passages(query: JudgedQuery) -> dict[str, str]:
    return {passage: str(number) for number, passage in enumerate(dict.fromkeys([*query.candidates, *query.grades]))}
