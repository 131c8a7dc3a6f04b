"""The verdict on a reranker, in words."""

from __future__ import annotations

from rerank_plugins.evaluation.results import Interval

__all__ = ["SIGNIFICANT", "format_p_value", "verdict"]

SIGNIFICANT = 0.05
"""The conventional level. A verdict also needs a 95 % interval that lies on one side of 0."""


def verdict(difference: Interval, p_value: float, *, better: int, worse: int, queries: int) -> str:
    """One paragraph: reranking helps, or hurts and what to do then, or the queries are too few to tell.

    ``difference`` is that of the mean nDCG@10, after less before.
    """
    counts = f"{better} {'query' if better == 1 else 'queries'} got better, {worse} worse, of {queries}."
    evidence = f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f}, {format_p_value(p_value)})"
    if difference.low > 0 and p_value < SIGNIFICANT:
        return f"Reranking helps: nDCG@10 rises by {difference.mean:.3f} {evidence}. {counts}"
    if difference.high < 0 and p_value < SIGNIFICANT:
        return (
            f"Reranking hurts: nDCG@10 falls by {-difference.mean:.3f} {evidence}. {counts} Do not use this model "
            f"here: try another, rerank fewer candidates, or leave reranking out."
        )
    return (
        f"Whether reranking helps cannot be told from {queries} {'query' if queries == 1 else 'queries'}: nDCG@10 "
        f"changes by {difference.mean:+.3f} {evidence}. {counts} More judged queries would narrow the interval."
    )


def format_p_value(p_value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
