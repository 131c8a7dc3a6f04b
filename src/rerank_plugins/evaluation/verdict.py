"""Whether reranking helps, in words."""

from __future__ import annotations

from rerank_plugins.evaluation.results import Interval

SIGNIFICANT = 0.05
"""The convention. That the 95 % interval lies on one side of 0 is asked for as well."""


def verdict(difference: Interval, p_value: float, *, better: int, worse: int, queries: int) -> str:
    """One paragraph: helps, hurts and what to do then, or cannot be told from so many queries.

    ``difference`` is that of the mean nDCG@10, after less before.
    """
    changed = f"{better} {'query' if better == 1 else 'queries'} got better, {worse} worse, of {queries}."
    told = f"(95 % interval {difference.low:+.3f} to {difference.high:+.3f}, {p_in_words(p_value)})"
    if difference.low > 0 and p_value < SIGNIFICANT:
        return f"Reranking helps: nDCG@10 rises by {difference.mean:.3f} {told}. {changed}"
    if difference.high < 0 and p_value < SIGNIFICANT:
        return (
            f"Reranking hurts: nDCG@10 falls by {-difference.mean:.3f} {told}. {changed} Do not use this model here: "
            f"try another, rerank fewer candidates, or leave reranking out."
        )
    return (
        f"Whether reranking helps cannot be told from {queries} {'query' if queries == 1 else 'queries'}: nDCG@10 "
        f"changes by {difference.mean:+.3f} {told}. {changed} More judged queries would narrow the interval."
    )


def p_in_words(p_value: float) -> str:
    """``p = 0.012``, or ``p < 0.001``."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.3f}"
