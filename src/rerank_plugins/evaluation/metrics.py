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
    qrels, run = {}, {}
    for number, (query, order) in enumerate(zip(queries, orders, strict=True)):
        # Numbers as ids: trec_eval's C code crashes at a lone surrogate, which JSON can hold.
        ids = {passage: str(n) for n, passage in enumerate(dict.fromkeys([*query.candidates, *query.grades]))}
        qrels[str(number)] = {ids[passage]: grade for passage, grade in query.grades.items()}
        # Evaluators sort by score and break ties by id. Scores that fall with the rank leave no ties.
        ranked = [ids[query.candidates[position]] for position in order]
        run[str(number)] = {passage: float(len(ranked) - rank) for rank, passage in enumerate(ranked)}
    values: PerQuery = {name: {query.id: 0.0 for query in queries} for name in metrics}
    measures = {ir_measures.parse_measure(name): name for name in metrics}
    for result in ir_measures.iter_calc(list(measures), qrels, run):
        values[measures[result.measure]][queries[int(result.query_id)].id] = result.value
    return values


def mean_metric(queries: Sequence[JudgedQuery], orders: Sequence[Order], metric: str) -> float:
    """The mean of one metric over the queries."""
    return fmean(compute_metrics(queries, orders, [metric])[metric].values())
