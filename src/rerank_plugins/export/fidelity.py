"""How much of a model's judgement an export kept: logits, order, and nDCG@10 where there are judgements."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from rerank_plugins.errors import MissingExtraError
from rerank_plugins.export.calibration_data import Question

LOWEST_TAU = 0.9
"""Mean Kendall's tau a query between the model's order and the export's. Chosen, as are the next two, not measured."""

LOWEST_OVERLAP = 0.85
"""Mean share of the model's first five that are among the export's first five."""

LARGEST_NDCG_LOSS = 0.02
"""Mean nDCG@10 of the export may be lower by so much."""

LARGEST_FP32_DIFFERENCE = 1e-3
"""Largest difference of a logit, for fp32: the same computation by another engine."""


def compare(
    questions: Sequence[Question], before: list[list[float]], after: list[list[float]], precision: str
) -> dict[str, Any]:
    """The report: logits ``before`` and ``after``, for each question one a document, in the same order.

    Keys: ``logit_difference`` (``mean``, ``max``), ``kendall_tau`` and ``top_5_overlap`` (``mean``, ``min``; over
    queries), ``ndcg_at_10`` (``before``, ``after``, ``queries``; None without judgements), ``per_query``,
    ``floor``, ``below_floor`` (sentences) and ``passed``.
    """
    differences = [
        abs(first - second)
        for firsts, seconds in zip(before, after, strict=True)
        for first, second in zip(firsts, seconds, strict=True)
    ]
    taus = [_tau(first, second) for first, second in zip(before, after, strict=True)]
    overlaps = [_overlap(first, second) for first, second in zip(before, after, strict=True)]
    ndcg_before, ndcg_after = _ndcg(questions, before), _ndcg(questions, after)
    report: dict[str, Any] = {
        "queries": len(questions),
        "pairs": len(differences),
        "logit_difference": {"mean": fmean(differences), "max": max(differences)},
        "kendall_tau": {"mean": fmean(taus), "min": min(taus)},
        "top_5_overlap": {"mean": fmean(overlaps), "min": min(overlaps)},
        "ndcg_at_10": None
        if not ndcg_before
        else {
            "before": fmean(ndcg_before.values()),
            "after": fmean(ndcg_after.values()),
            "queries": len(ndcg_before),
        },
    }
    report["floor"] = {
        "kendall_tau": LOWEST_TAU,
        "top_5_overlap": LOWEST_OVERLAP,
        "ndcg_at_10_loss": LARGEST_NDCG_LOSS,
        "logit_difference": LARGEST_FP32_DIFFERENCE if precision == "fp32" else None,
    }
    report["below_floor"] = _below_floor(report)
    report["passed"] = not report["below_floor"]
    report["per_query"] = [
        {
            "query": question.id,
            "kendall_tau": tau,
            "top_5_overlap": overlap,
            "ndcg_at_10": [ndcg_before[str(number)], ndcg_after[str(number)]] if str(number) in ndcg_before else None,
        }
        for number, (question, tau, overlap) in enumerate(zip(questions, taus, overlaps, strict=True))
    ]
    return report


def _below_floor(report: dict[str, Any]) -> list[str]:
    floor = report["floor"]
    found = []
    # "not at least", so that a NaN is below every floor.
    if not report["kendall_tau"]["mean"] >= floor["kendall_tau"]:
        found.append(f"mean Kendall's tau {report['kendall_tau']['mean']:.3f}, expected {floor['kendall_tau']} or more")
    if not report["top_5_overlap"]["mean"] >= floor["top_5_overlap"]:
        found.append(
            f"mean top-5 overlap {report['top_5_overlap']['mean']:.3f}, expected {floor['top_5_overlap']} or more"
        )
    ndcg = report["ndcg_at_10"]
    if ndcg and not ndcg["before"] - ndcg["after"] <= floor["ndcg_at_10_loss"]:
        found.append(
            f"nDCG@10 fell from {ndcg['before']:.4f} to {ndcg['after']:.4f}, expected to lose "
            f"{floor['ndcg_at_10_loss']} at most"
        )
    largest = floor["logit_difference"]
    if largest is not None and not report["logit_difference"]["max"] <= largest:
        found.append(f"a logit differs by {report['logit_difference']['max']:.2g}, expected {largest} at most")
    return found


def _tau(first: list[float], second: list[float]) -> float:
    try:
        from scipy.stats import kendalltau
    except ImportError as exc:
        raise MissingExtraError("export", "An export's fidelity report", str(exc.name)) from exc
    if not all(map(math.isfinite, second)):
        return -1.0
    if len(set(first)) == 1:
        return 1.0  # the model itself put nothing in order
    if len(set(second)) == 1:
        return 0.0
    return float(kendalltau(first, second).statistic)


def _overlap(first: list[float], second: list[float]) -> float:
    kept = min(5, len(first))
    return len(_best(first, kept) & _best(second, kept)) / kept


def _best(logits: list[float], kept: int) -> set[int]:
    return set(sorted(range(len(logits)), key=lambda position: -logits[position])[:kept])


def _ndcg(questions: Sequence[Question], logits: list[list[float]]) -> dict[str, float]:
    """nDCG@10 by the questions' positions, of those that have a passage judged relevant."""
    relevant = {
        str(number): question.grades
        for number, question in enumerate(questions)
        if any(grade > 0 for grade in question.grades.values())
    }
    if not relevant:
        return {}
    try:
        import ir_measures
    except ImportError as exc:
        raise MissingExtraError("export", "nDCG in an export's fidelity report", str(exc.name)) from exc
    run = {
        str(number): dict(zip(question.documents, scores, strict=True))
        for number, (question, scores) in enumerate(zip(questions, logits, strict=True))
        if str(number) in relevant
    }
    return {found.query_id: found.value for found in ir_measures.iter_calc([ir_measures.nDCG @ 10], relevant, run)}
