"""One reranker beside the first stage: metrics, difference, depths, and what became of every query."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean

from rerank_plugins.evaluation.metrics import Order, PerQuery, measured
from rerank_plugins.evaluation.queries import JudgedQuery
from rerank_plugins.evaluation.results import METRICS, QueryChange, Ranking, Reranked
from rerank_plugins.evaluation.score_log import Scored
from rerank_plugins.evaluation.significance import interval, p_value
from rerank_plugins.evaluation.systems import Contender
from rerank_plugins.evaluation.verdict import verdict
from rerank_plugins.results import rank

DEPTHS = (5, 10, 20, 30, 50, 100, 200, 500, 1000)
"""How many candidates `Reranked.by_depth` tries, and as many as there are at most."""

_NDCG = METRICS[0]


def ranking(per_query: PerQuery, seed: int) -> Ranking:
    """With the means of what is given, and their intervals."""
    return Ranking({metric: interval(values.values(), seed) for metric, values in per_query.items()}, per_query)


def reranked_order(scores: Sequence[float | None], depth: int) -> list[int]:
    """Positions if the first ``depth`` are reranked and the others follow as they were.

    Equal scores keep their order; what has none comes last of those reranked, as in `Reranker.rerank`.
    """
    keys = [-math.inf if score is None else score for score in scores[:depth]]
    return [*rank(keys), *range(len(keys), len(scores))]


def compared(
    contender: Contender,
    queries: Sequence[JudgedQuery],
    before: Ranking,
    scored: Sequence[Scored],
    *,
    top_k: int,
    seed: int,
) -> Reranked:
    """What ``contender`` changed: ``scored`` is one a query, in the order of ``queries``."""
    orders = [reranked_order(one.scores, top_k) for one in scored]
    after = ranking(measured(queries, orders), seed)
    was, became = before.per_query[_NDCG], after.per_query[_NDCG]
    differences = [became[query.id] - was[query.id] for query in queries]
    difference, p = interval(differences, seed), p_value(differences, seed)
    better, worse = sum(one > 0 for one in differences), sum(one < 0 for one in differences)
    return Reranked(
        model=contender.label,
        engine=contender.engine,
        precision=contender.precision,
        ranking=after,
        difference=difference,
        p_value=p,
        better=better,
        worse=worse,
        seconds={query.id: one.seconds for query, one in zip(queries, scored, strict=True)},
        by_depth=_by_depth(queries, scored, top_k),
        changes=_changes(queries, orders, was, became),
        scores={
            query.id: list(zip(_probabilities(contender, one.scores), query.is_relevant, strict=True))
            for query, one in zip(queries, scored, strict=True)
        },
        verdict=verdict(difference, p, better=better, worse=worse, queries=len(queries)),
    )


def _by_depth(queries: Sequence[JudgedQuery], scored: Sequence[Scored], top_k: int) -> dict[int, float]:
    most = min(top_k, max(len(query.candidates) for query in queries))
    depths = [*(depth for depth in DEPTHS if depth < most), most]
    return {
        depth: fmean(
            measured(queries, [reranked_order(one.scores, depth) for one in scored], [_NDCG])[_NDCG].values(),
        )
        for depth in depths
    }


def _probabilities(contender: Contender, scores: Sequence[float | None]) -> list[float]:
    return [0.0 if score is None else contender.reranker.as_score(score) for score in scores]


def _changes(
    queries: Sequence[JudgedQuery], orders: Sequence[Order], was: dict[str, float], became: dict[str, float]
) -> list[QueryChange]:
    changes = [
        QueryChange(
            query_id=query.id,
            query=query.text,
            before=was[query.id],
            after=became[query.id],
            first_relevant_before=_first(query, range(len(order))),
            first_relevant_after=_first(query, order),
            top_before=query.texts[0],
            top_after=query.texts[order[0]],
            relevant=query.relevant,
        )
        for query, order in zip(queries, orders, strict=True)
    ]
    return sorted(changes, key=lambda change: change.after - change.before)


def _first(query: JudgedQuery, order: Order) -> int | None:
    relevant = query.is_relevant
    return next((place for place, position in enumerate(order, start=1) if relevant[position]), None)
