"""Lists and their targets."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from rerank_plugins.results import sigmoid
from rerank_plugins.training.base_model import load_base
from rerank_plugins.training.dataset import TrainingQuery
from rerank_plugins.training.lists import TrainingList, as_logit, drawn, log_shares, softmax, targets

OTHERS = tuple(f"n{number}" for number in range(20))
QUERIES = [
    *(TrainingQuery(f"q{number}", ("r1", "r2"), OTHERS) for number in range(30)),
    TrainingQuery("short", ("r1",), ("n1",)),
    TrainingQuery("unjudged", (), OTHERS),
]


def test_a_list_is_one_relevant_passage_and_others() -> None:
    """Of the size asked for where there are so many, without a passage twice; the relevant one first."""
    for one in drawn(QUERIES, list_size=8, epochs=3, seed=0):
        assert len(one.passages) == len(set(one.passages)) == (2 if one.query == "short" else 8)
        relevant = [passage for passage in one.passages if passage.startswith("r")]
        assert relevant == ([] if one.query == "unjudged" else [one.passages[0]])
        assert one.judged is bool(relevant)


def test_every_epoch_has_every_query_once_with_other_passages() -> None:
    """In another order each time."""
    lists = drawn(QUERIES, list_size=8, epochs=2, seed=0)
    first, second = lists[: len(QUERIES)], lists[len(QUERIES) :]
    orders = [[one.query for one in epoch] for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(query.id for query in QUERIES)
    assert orders[0] != orders[1]
    before, after = ({one.query: one.passages for one in epoch} for epoch in (first, second))
    assert before["q0"] != after["q0"]


def test_lists_are_the_seeds() -> None:
    """The same by the same seed, others by another."""
    assert drawn(QUERIES, list_size=4, epochs=2, seed=1) == drawn(QUERIES, list_size=4, epochs=2, seed=1)
    assert drawn(QUERIES, list_size=4, epochs=2, seed=1) != drawn(QUERIES, list_size=4, epochs=2, seed=2)


LOGITS = {"a": 2.0, "b": 0.0, "c": -1.0}
JUDGED, UNJUDGED = (TrainingList("q", ("a", "b", "c"), judged) for judged in (True, False))


def test_targets_are_a_mixture_of_judgement_and_teacher() -> None:
    """(1 - w) times the one, w times the softmax of the other; they sum to 1."""
    soft = softmax([2.0, 0.0, -1.0])
    assert soft == pytest.approx([0.8438, 0.1142, 0.0420], abs=1e-4)
    found = targets(JUDGED, LOGITS, 0.25)
    assert found == pytest.approx([0.75 + 0.25 * soft[0], 0.25 * soft[1], 0.25 * soft[2]])
    assert sum(found) == pytest.approx(1)


def test_without_a_teacher_the_judgement_is_all() -> None:
    """And without a judgement the teacher is, whatever its weight."""
    assert targets(JUDGED, None, 0.5) == [1.0, 0.0, 0.0]
    assert targets(UNJUDGED, LOGITS, 0.1) == softmax([2.0, 0.0, -1.0])


def test_a_probability_becomes_a_finite_logit() -> None:
    """The inverse of the sigmoid, clipped at the ends."""
    assert sigmoid(as_logit(0.3)) == pytest.approx(0.3)
    assert as_logit(0.0) == pytest.approx(-as_logit(1.0))
    assert as_logit(1.0) == pytest.approx(13.8, abs=0.1)


@pytest.mark.parametrize("shares", [[1.0, 0.0, 0.0], [0.7, 0.2, 0.1]])
def test_the_loss_is_the_cross_entropy_with_these_targets(pupil: Path, shares: list[float]) -> None:
    """sentence-transformers' ListNetLoss, given their logarithms, computes -sum(share * log softmax(logits)).

    Also beside a longer list, whose places the shorter one does not have.
    """
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    encoder = load_base("pupil", pupil, max_length=64, seed=0).encoder.eval()
    documents = [["bread is baked", "the cat sat", "water and air"], ["a", "b", "c", "d"]]
    other = [0.25] * 4
    labels = [torch.tensor(log_shares(one)) for one in (shares, other)]
    with torch.inference_mode():
        loss = ListNetLoss(encoder)([["what is bread", "cat"], documents], labels).item()
        logits = [
            encoder.predict([(query, text) for text in texts], activation_fn=torch.nn.Identity()).tolist()
            for query, texts in zip(["what is bread", "cat"], documents, strict=True)
        ]
    expected = [
        -sum(share * math.log(found) for share, found in zip(wanted, softmax(given), strict=True))
        for wanted, given in zip((shares, other), logits, strict=True)
    ]
    assert loss == pytest.approx(sum(expected) / 2, abs=1e-4)
