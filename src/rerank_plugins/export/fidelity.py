"""The fidelity of an export: differences of its logits, its order and its nDCG@10 from the model's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rerank_plugins.export.calibration_data import ComparisonQuery

MIN_TAU = 0.9
"""Lowest mean Kendall's tau between the model's and the export's order. Chosen, not measured."""

MIN_OVERLAP = 0.85
"""Lowest mean share of the model's first five that are among the export's first five. Chosen, not measured."""

MAX_NDCG_LOSS = 0.02
"""Largest loss of mean nDCG@10. Chosen, not measured."""

MAX_FP32_DIFFERENCE = 1e-3
"""Largest difference of a logit, for fp32: the same computation by another engine."""


def compare(
    queries: Sequence[ComparisonQuery], before: list[list[float]], after: list[list[float]], precision: str
) -> dict[str, Any]:
    """The report on logits ``before`` and ``after``: a list for each query, with a logit for each of its documents.

    Keys: ``logit_difference`` (``mean``, ``max``), ``kendall_tau`` and ``top_5_overlap`` (``mean``, ``min``; over
    queries), ``ndcg_at_10`` (``before``, ``after``, ``queries``; None without qrels), ``per_query``, ``floor``,
    ``below_floor`` (sentences) and ``passed``.
    """
    rows = list(zip(before, after, strict=True))
    differences = [abs(first - second) for row in rows for first, second in zip(*row, strict=True)]
    taus, overlaps = [_tau(*row) for row in rows], [_overlap(*row) for row in rows]
    ndcg_before, ndcg_after = _ndcg(queries, before), _ndcg(queries, after)
    ndcg = {"before": fmean(ndcg_before.values()), "after": fmean(ndcg_after.values())} if ndcg_before else None
    report: dict[str, Any] = {
        "queries": len(queries),
        "pairs": len(differences),
        "logit_difference": {"mean": fmean(differences), "max": max(differences)},
        "kendall_tau": {"mean": fmean(taus), "min": min(taus)},
        "top_5_overlap": {"mean": fmean(overlaps), "min": min(overlaps)},
        "ndcg_at_10": {**ndcg, "queries": len(ndcg_before)} if ndcg else None,
        "floor": {
            "kendall_tau": MIN_TAU,
            "top_5_overlap": MIN_OVERLAP,
            "ndcg_at_10_loss": MAX_NDCG_LOSS,
            "logit_difference": MAX_FP32_DIFFERENCE if precision == "fp32" else None,
        },
    }
    report["below_floor"] = _describe_shortfalls(report)
    report["passed"] = not report["below_floor"]
    report["per_query"] = [
        {
            "query": query.id,
            "kendall_tau": tau,
            "top_5_overlap": overlap,
            "ndcg_at_10": [ndcg_before[name], ndcg_after[name]] if (name := str(number)) in ndcg_before else None,
        }
        for number, (query, tau, overlap) in enumerate(zip(queries, taus, overlaps, strict=True))
    ]
    return report


def _describe_shortfalls(report: dict[str, Any]) -> list[str]:
    floor, ndcg, sentences = report["floor"], report["ndcg_at_10"], []
    # "not at least", so that a NaN is below every floor.
    for name, label in (("kendall_tau", "Kendall's tau"), ("top_5_overlap", "top-5 overlap")):
        if not report[name]["mean"] >= floor[name]:
            sentences.append(f"mean {label} {report[name]['mean']:.3f}, expected {floor[name]} or more")
    if ndcg and not ndcg["before"] - ndcg["after"] <= floor["ndcg_at_10_loss"]:
        sentences.append(
            f"nDCG@10 fell from {ndcg['before']:.4f} to {ndcg['after']:.4f}, expected to lose "
            f"{floor['ndcg_at_10_loss']} at most"
        )
    largest = floor["logit_difference"]
    if largest is not None and not report["logit_difference"]["max"] <= largest:
        sentences.append(f"a logit differs by {report['logit_difference']['max']:.2g}, expected {largest} at most")
    return sentences


def _tau(first: list[float], second: list[float]) -> float:
    from scipy.stats import kendalltau

    if not all(map(math.isfinite, second)):
        return -1.0
    if len(set(first)) == 1:
        return 1.0  # the model itself gives no order
    if len(set(second)) == 1:
        return 0.0
    return float(kendalltau(first, second).statistic)


def _overlap(first: list[float], second: list[float]) -> float:
    size = min(5, len(first))
    tops = [set(sorted(range(len(row)), key=lambda position: -row[position])[:size]) for row in (first, second)]
    return len(tops[0] & tops[1]) / size


def _ndcg(queries: Sequence[ComparisonQuery], logits: list[list[float]]) -> dict[str, float]:
    """nDCG@10 by the positions of the queries, of those that have a passage judged relevant."""
    qrels: dict[str, dict[str, int]] = {}
    run: dict[str, dict[str, float]] = {}
    for number, (query, scores) in enumerate(zip(queries, logits, strict=True)):
        if any(grade > 0 for grade in query.grades.values()):
            # Numbers: trec_eval's C code crashes on an id with a lone surrogate.
            ids = {name: str(n) for n, name in enumerate(dict.fromkeys([*query.documents, *query.grades]))}
            qrels[str(number)] = {ids[name]: grade for name, grade in query.grades.items()}
            run[str(number)] = {ids[name]: score for name, score in zip(query.documents, scores, strict=True)}
    if not qrels:
        return {}
    import ir_measures

    return {result.query_id: result.value for result in ir_measures.iter_calc([ir_measures.nDCG @ 10], qrels, run)}
