from __future__ import annotations

import math

import ir_measures
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins.evaluation.comparison import order_by_score
from rerank_plugins.evaluation.metrics import compute_metrics, mean_metric
from rerank_plugins.evaluation.queries import JudgedQuery


def judged(grades: dict[str, int], candidates: list[str], name: str = "q") -> JudgedQuery:
    return JudgedQuery(name, "query", candidates, [f"text of {key}" for key in candidates], grades, "")


def gain(grades: list[int]) -> float:
    return sum(grade / math.log2(rank + 1) for rank, grade in enumerate(grades[:10], start=1))


@given(
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([-2.5, 0.0, 0.25, 7.0])), min_size=1, max_size=30),
    st.integers(1, 40),
)
def test_ndcg_is_that_of_our_order_also_among_ties(rows: list[tuple[int, float]], depth: int) -> None:
    """With ties too, nDCG@10 is the textbook's sum over the reranked order."""
    grades = {f"p{number}": grade for number, (grade, _) in enumerate(rows)} | {"elsewhere": 2}
    query = judged(grades, [f"p{number}" for number in range(len(rows))])
    order = order_by_score([score for _, score in rows], depth)
    expected = gain([rows[position][0] for position in order]) / gain(sorted(grades.values(), reverse=True))
    assert compute_metrics([query], [order])["nDCG@10"]["q"] == pytest.approx(expected, abs=1e-9)


def test_metrics_are_ir_measures_own_where_nothing_is_tied() -> None:
    """Of distinct scores all three metrics are those of ir-measures on the scores themselves."""
    query = judged({"a": 2, "b": 0, "c": 1, "z": 1}, ["a", "b", "c", "d"])
    scores = [-1.5, 3.0, 2.0, -0.5]
    run = {"q": dict(zip(query.candidates, scores, strict=True))}
    metrics = [ir_measures.nDCG @ 10, ir_measures.RR @ 10, ir_measures.R @ 10]
    expected = ir_measures.calc_aggregate(metrics, {"q": query.grades}, run)
    found = compute_metrics([query], [order_by_score(scores, 50)])
    assert {name: values["q"] for name, values in found.items()} == {str(key): expected[key] for key in metrics}


def test_a_query_without_a_relevant_candidate_is_zero_and_stays() -> None:
    """A query without a relevant candidate counts as 0 in every metric and in the recall."""
    queries = [judged({"a": 1}, ["a", "b"], "found"), judged({"z": 1}, ["a", "b"], "missed")]
    found = compute_metrics(queries, [[0, 1], [0, 1]])
    assert found == {name: {"found": 1.0, "missed": 0.0} for name in ("nDCG@10", "RR@10", "R@10")}
    assert mean_metric(queries, [[0, 1], [0, 1]], "R@2") == 0.5


def test_an_unjudged_passage_is_not_relevant() -> None:
    """A passage without a grade that is ranked first costs as much as one judged 0."""
    query = judged({"a": 1, "b": 0}, ["a", "b", "unjudged"])
    above = [compute_metrics([query], [order])["nDCG@10"]["q"] for order in ([1, 0, 2], [2, 0, 1])]
    assert above[0] == above[1] == pytest.approx(1 / math.log2(3))


def test_only_the_first_candidates_are_reranked() -> None:
    """Candidates beyond the depth keep their order; blank ones come last of the reranked ones."""
    assert order_by_score([1.0, 2.0, 9.0, 3.0], 2) == [1, 0, 2, 3]
    assert order_by_score([None, 2.0, 2.0, 3.0], 3) == [1, 2, 0, 3]
    assert order_by_score([1.0, 2.0], 50) == [1, 0]
