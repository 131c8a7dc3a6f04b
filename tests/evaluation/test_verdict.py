from __future__ import annotations

import pytest

from rerank_plugins.evaluation.results import Interval
from rerank_plugins.evaluation.verdict import verdict


def test_a_gain_has_its_interval() -> None:
    """An interval above 0 and a small p: it helps, by how much, and for how many."""
    text = verdict(Interval(0.173, 0.131, 0.214), 0.0002, better=98, worse=20, queries=160)
    assert text == (
        "Reranking helps: nDCG@10 rises by 0.173 (95 % interval +0.131 to +0.214, p < 0.001). "
        "98 queries got better, 20 worse, of 160."
    )


def test_a_loss_has_its_interval_and_remedies() -> None:
    """An interval below 0 and a small p: it hurts, and there are three ways out."""
    text = verdict(Interval(-0.045, -0.08, -0.01), 0.012, better=1, worse=20, queries=40)
    assert text.startswith(
        "Reranking hurts: nDCG@10 falls by 0.045 (95 % interval -0.080 to -0.010, p = 0.012). "
        "1 query got better, 20 worse, of 40."
    )
    for remedy in ("another", "fewer candidates", "leave reranking out"):
        assert remedy in text


@pytest.mark.parametrize(
    ("difference", "p"),
    [
        (Interval(0.008, -0.012, 0.03), 0.41),
        (Interval(-0.008, -0.03, 0.012), 0.41),
        (Interval(0.02, 0.001, 0.04), 0.06),
        (Interval(-0.02, -0.04, -0.001), 0.06),
        (Interval(0.0, 0.0, 0.0), 1.0),
    ],
)
def test_insignificant_differences_are_no_verdict(difference: Interval, p: float) -> None:
    """An interval with 0 in it, or a p of .05 or more, is no verdict, whatever the mean."""
    text = verdict(difference, p, better=12, worse=10, queries=40)
    assert text.startswith(
        f"Whether reranking helps cannot be told from 40 queries: nDCG@10 changes by {difference.mean:+.3f}"
    )
    assert f"{difference.low:+.3f} to {difference.high:+.3f}" in text
    assert "helps:" not in text
    assert "hurts" not in text
