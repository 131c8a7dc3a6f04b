"""The numbers of a fidelity report, and its verdict."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rerank_plugins.export.calibration_data import ComparisonQuery
from rerank_plugins.export.fidelity import _ndcg, compare

ROW = st.lists(st.integers(-50, 50).map(float), min_size=6, max_size=6, unique=True)
LOGITS = st.lists(ROW, min_size=1, max_size=4)


def questions(count: int, documents: int = 6, grades: dict[str, int] | None = None) -> list[ComparisonQuery]:
    texts = {f"d{number}": f"text {number}" for number in range(documents)}
    return [ComparisonQuery(f"q{number}", f"query {number}", texts, grades or {}) for number in range(count)]


@settings(max_examples=30)
@given(logits=LOGITS, scale=st.floats(0.1, 3), shift=st.floats(-3, 3))
def test_the_same_order_is_a_tau_of_one(logits: list[list[float]], scale: float, shift: float) -> None:
    """Any growing rescaling keeps every order and passes; only the logits' difference shows it."""
    moved = [[scale * logit + shift for logit in row] for row in logits]
    report = compare(questions(len(logits)), logits, moved, "int8")
    assert report["kendall_tau"] == {"mean": pytest.approx(1), "min": pytest.approx(1)}
    assert report["top_5_overlap"] == {"mean": 1.0, "min": 1.0}
    assert report["passed"]
    assert report["logit_difference"]["max"] == pytest.approx(
        max(abs(a - b) for one, two in zip(logits, moved, strict=True) for a, b in zip(one, two, strict=True))
    )


def test_tau_and_overlap_are_those_of_the_textbook() -> None:
    """One exchanged pair among six documents: 14 of 15 pairs agree; one of five replaced is an overlap of .8."""
    before = [[6.0, 5.0, 4.0, 3.0, 2.0, 1.0]]
    after = [[6.0, 5.0, 4.0, 3.0, 1.0, 2.0]]
    report = compare(questions(1), before, after, "int8")
    assert report["kendall_tau"]["mean"] == pytest.approx((14 - 1) / 15)
    assert report["top_5_overlap"]["mean"] == pytest.approx(0.8)
    assert report["below_floor"] == [
        "mean Kendall's tau 0.867, expected 0.9 or more",
        "mean top-5 overlap 0.800, expected 0.85 or more",
    ]


def test_ndcg_is_the_one_computed_by_hand() -> None:
    """Grades 2 and 1 at places one and three before, at two and one after; queries without qrels do not count."""
    asked = [*questions(1, 3, {"d0": 2, "d2": 1, "d1": 0}), *questions(1, 3)]
    report = compare(asked, [[3.0, 2.0, 1.0]] * 2, [[2.0, 1.0, 3.0]] * 2, "int8")
    ideal = 2 + 1 / math.log2(3)
    before, after = (2 + 1 / math.log2(4)) / ideal, (1 + 2 / math.log2(3)) / ideal
    assert report["ndcg_at_10"] == {
        "before": pytest.approx(before),
        "after": pytest.approx(after),
        "queries": 1,
    }
    assert [row["ndcg_at_10"] for row in report["per_query"]] == [[pytest.approx(before), pytest.approx(after)], None]
    assert any(text.startswith("nDCG@10 fell from 0.9502 to 0.8597") for text in report["below_floor"])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_logit_that_is_no_number_never_passes(bad: float) -> None:
    """Whatever else agrees."""
    before = [[float(number) for number in range(6)]] * 3
    after = [row.copy() for row in before]
    after[1][2] = bad
    assert not compare(questions(3), before, after, "fp32")["passed"]


def test_a_constant_export_of_a_model_with_an_opinion_fails() -> None:
    """No order is not the model's order; where the model has none either, nothing is lost."""
    opinion, none = [[float(number) for number in range(6)]], [[1.0] * 6]
    assert not compare(questions(1), opinion, none, "int8")["passed"]
    assert compare(questions(1), none, none, "int8")["kendall_tau"]["mean"] == 1.0


def test_fp32_fails_on_the_size_of_the_difference() -> None:
    """The same order is not enough for the same computation; for int8 it is."""
    before = [[float(number) for number in range(6)]]
    after = [[logit + 0.01 for logit in before[0]]]
    assert not compare(questions(1), before, after, "fp32")["passed"]
    assert compare(questions(1), before, after, "int8")["passed"]


def test_noise_of_the_size_of_the_spread_fails() -> None:
    """A shuffled order falls below every floor, each in a sentence of its own."""
    draw = np.random.default_rng(0)
    asked = questions(30, 20, {"d0": 1})
    before = [[20.0 - number for number in range(20)] for _ in asked]
    after = [list(map(float, draw.permutation(20))) for _ in asked]
    assert len(compare(asked, before, after, "int8")["below_floor"]) == 3


def test_ids_that_no_c_string_holds_are_counted() -> None:
    """trec_eval's C code would end the process at a passage id with a lone surrogate."""
    query = ComparisonQuery("q", "text", {"a\ud800": "one", "b": "two"}, {"a\ud800": 1})
    assert _ndcg([query], [[2.0, 1.0]]) == {"0": 1.0}
