"""The verdict on a reranker, in words."""

from __future__ import annotations

from typing import Literal, NamedTuple

from rerank_plugins.evaluation.results import Interval

SIGNIFICANT = 0.05
"""The conventional level. A verdict also needs a 95 % interval that lies on one side of 0."""


def outcome(difference: Interval, p_value: float) -> Literal["better", "worse", "open"]:
    """What a difference of mean nDCG@10, after less before, says about reranking."""
    if p_value < SIGNIFICANT and difference.low > 0:
        return "better"
    return "worse" if p_value < SIGNIFICANT and difference.high < 0 else "open"


class Wording(NamedTuple):
    """What a verdict calls its three outcomes, and its advice after the worse one."""

    better: str = "Reranking helps"
    worse: str = "Reranking hurts"
    open: str = "Whether reranking helps"
    advice: str = "try another, rerank fewer candidates, or leave reranking out"


_RERANKING = Wording()


def verdict(
    difference: Interval, p_value: float, *, better: int, worse: int, queries: int, wording: Wording = _RERANKING
) -> str:
    """The `outcome` in one paragraph, with its evidence and, if it is worse, what to do."""
    counts = f"{better} {'query' if better == 1 else 'queries'} got better, {worse} worse, of {queries}."
    evidence = f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f}, {format_p_value(p_value)})"
    result = outcome(difference, p_value)
    if result == "better":
        return f"{wording.better}: nDCG@10 rises by {difference.mean:.3f} {evidence}. {counts}"
    if result == "worse":
        return (
            f"{wording.worse}: nDCG@10 falls by {-difference.mean:.3f} {evidence}. {counts} Do not use this model "
            f"here: {wording.advice}."
        )
    return (
        f"{wording.open} cannot be told from {queries} {'query' if queries == 1 else 'queries'}: nDCG@10 "
        f"changes by {difference.mean:+.3f} {evidence}. {counts} More judged queries would narrow the interval."
    )


def format_p_value(p_value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
