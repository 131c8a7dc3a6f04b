"""One reranker compared with the first stage: metrics, difference, depths, and every query's change."""

from __future__ import annotations

import math
from collections.abc import Sequence

from rerank_plugins.evaluation.metrics import Order, PerQuery, compute_metrics, mean_metric
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.evaluation.results import METRICS, QueryChange, Ranking, Reranked
from rerank_plugins.evaluation.score_log import QueryScores
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.evaluation.systems import System
from rerank_plugins.evaluation.verdict import verdict
from rerank_plugins.results import rank

DEPTHS = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
"""The depths of `Reranked.by_depth`, up to the number of candidates, which is always the last one."""

_NDCG = METRICS[0]


def summarize(per_query: PerQuery, seed: int) -> Ranking:
    """The values of a ranking with their means and intervals."""
    return Ranking({metric: interval(values.values(), seed) for metric, values in per_query.items()}, per_query)


def order_by_score(scores: Sequence[float | None], depth: int) -> list[int]:
    """Positions if the first ``depth`` candidates are reranked and the others follow in their order.

    Equal scores keep their order; candidates without a score come last of the reranked ones, as in `Reranker.rerank`.
    """
    keys = [-math.inf if score is None else score for score in scores[:depth]]
    return [*rank(keys), *range(len(keys), len(scores))]


def compare(
    system: System,
    queries: Sequence[JudgedQuery],
    before: Ranking,
    results: Sequence[QueryScores],
    *,
    fetch_k: int,
    seed: int,
) -> Reranked:
    """Compare ``system`` with the order ``before``; ``results`` has one entry a query, in the order of ``queries``."""
    orders = [order_by_score(result.scores, fetch_k) for result in results]
    after = summarize(compute_metrics(queries, orders), seed)
    old, new = before.per_query[_NDCG], after.per_query[_NDCG]
    differences = [new[query.id] - old[query.id] for query in queries]
    difference, p = interval(differences, seed), p_value(differences, seed)
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    by_query = list(zip(queries, results, strict=True))
    return Reranked(
        model=system.label,
        engine=system.engine,
        precision=system.precision,
        ranking=after,
        difference=difference,
        p_value=p,
        better=better,
        worse=worse,
        seconds={query.id: result.seconds for query, result in by_query},
        by_depth=_by_depth(queries, results, fetch_k),
        changes=sorted(
            (_change(query, order, old[query.id], new[query.id]) for query, order in zip(queries, orders, strict=True)),
            key=lambda change: change.after - change.before,
        ),
        scores={query.id: _label_scores(system, query, result) for query, result in by_query},
        verdict=verdict(difference, p, better=better, worse=worse, queries=len(queries)),
    )


def _by_depth(queries: Sequence[JudgedQuery], results: Sequence[QueryScores], fetch_k: int) -> dict[int, float]:
    deepest = min(fetch_k, max(len(query.candidates) for query in queries))
    means = {}
    for depth in [*(depth for depth in DEPTHS if depth < deepest), deepest]:
        orders = [order_by_score(result.scores, depth) for result in results]
        means[depth] = mean_metric(queries, orders, _NDCG)
    return means


def _label_scores(system: System, query: JudgedQuery, result: QueryScores) -> list[tuple[float, bool]]:
    scores = [0.0 if score is None else system.reranker.as_score(score) for score in result.scores]
    return list(zip(scores, query.is_relevant, strict=True))


def _change(query: JudgedQuery, order: Order, before: float, after: float) -> QueryChange:
    return QueryChange(
        query_id=query.id,
        query=query.text,
        before=before,
        after=after,
        first_relevant_before=_first_relevant(query, range(len(order))),
        first_relevant_after=_first_relevant(query, order),
        top_before=query.texts[0],
        top_after=query.texts[order[0]],
        relevant=query.relevant,
    )


def _first_relevant(query: JudgedQuery, order: Order) -> int | None:
    relevant = query.is_relevant
    return next((place for place, position in enumerate(order, start=1) if relevant[position]), None)
