"""The passages of a training query, the lists sampled from them, and their targets."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.special import softmax

from collections_to_learn import CollectionBuilder, KeywordTeacher, make_collection, make_config
from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins.retrieval.trec_run import read_run_file
from rerank_plugins.training.base_model import load_base_model
from rerank_plugins.training.dataset import (
    TrainingDataset,
    TrainingList,
    TrainingQuery,
    build_dataset,
    sample_lists,
    target_distribution,
    to_labels,
)
from rerank_plugins.training.splits import split_queries


def build(collection: CollectionBuilder, folder: Path, **changes: Any) -> TrainingDataset:
    splits = split_queries(make_config(collection.write(folder), folder, folder.with_name("output"), **changes))
    return build_dataset(splits, read_run_file(folder.with_suffix(".run"), splits.all_queries))


def find(dataset: TrainingDataset, name: str) -> TrainingQuery:
    return next(query for query in dataset.queries if query.id == name)


@pytest.fixture
def learned_from(tmp_path: Path) -> str:
    """A query that is not held out for the development."""
    return build(make_collection(), tmp_path / "any").queries[0].id


def test_neither_blank_passages_nor_copies_are_negatives(tmp_path: Path, learned_from: str) -> None:
    """A blank one says nothing, a copy of a relevant one is relevant, and a text counts once."""
    collection = make_collection()
    number = learned_from[1:]
    collection.passages |= {
        "blank": " \n",
        "copy": collection.passages[f"p{number}b"].upper(),
        "twice": collection.passages[f"p{number}c"],
    }
    collection.candidates[learned_from] = ["copy", "blank", f"p{number}c", "twice", f"p{number}b", f"p{number}a"]
    query = find(build(collection, tmp_path / "odd"), learned_from)
    assert query.relevant == (f"p{number}b",)
    assert query.others == (f"p{number}c", f"p{number}a")


def test_a_relevant_passage_need_not_be_a_candidate(tmp_path: Path, learned_from: str) -> None:
    """It is learned from although the first stage missed it."""
    collection = make_collection()
    number = learned_from[1:]
    collection.candidates[learned_from] = [f"p{number}a"]
    query = find(build(collection, tmp_path / "missed"), learned_from)
    assert query.relevant == (f"p{number}b",)


def test_a_query_without_a_negative_is_counted_and_left_out(tmp_path: Path, learned_from: str) -> None:
    """With nothing but relevant candidates there is nothing to prefer it to."""
    collection = make_collection()
    collection.candidates[learned_from] = [f"p{learned_from[1:]}b"]
    dataset = build(collection, tmp_path / "none")
    assert dataset.data.without_negative == 1
    assert learned_from not in {query.id for query in dataset.queries}


def test_too_few_with_negatives_are_refused(tmp_path: Path) -> None:
    """What is left after that is counted again."""
    collection = make_collection()
    collection.candidates = {query: [f"p{query[1:]}b"] for query in collection.queries}
    with pytest.raises(InvalidInputError, match=r"has 0 queries to learn from .* 70 that have no candidate beside"):
        build(collection, tmp_path / "none")


def test_a_teacher_gets_queries_nobody_judged(tmp_path: Path) -> None:
    """They have candidates and nothing relevant, and count towards what is needed."""
    dataset = build(
        make_collection(trained=30, unjudged=40), tmp_path / "unjudged", teacher=Reranker(KeywordTeacher("bread"))
    )
    assert (dataset.data.judged, dataset.data.unjudged) == (20, 40)
    assert find(dataset, "q45").relevant == ()
    assert set(find(dataset, "q45").others) == {"p45a", "p45b", "p45c"}


OTHERS = tuple(f"n{number}" for number in range(20))
QUERIES = [
    *(TrainingQuery(f"q{number}", ("r1", "r2"), OTHERS) for number in range(30)),
    TrainingQuery("short", ("r1",), ("n1",)),
    TrainingQuery("unjudged", (), OTHERS),
]


def test_a_list_is_one_relevant_passage_and_others() -> None:
    """Of the size asked for where there are so many, without a passage twice; the relevant one first."""
    for one in sample_lists(QUERIES, list_size=8, epochs=3, seed=0):
        assert len(one.passages) == len(set(one.passages)) == (2 if one.query == "short" else 8)
        relevant = [passage for passage in one.passages if passage.startswith("r")]
        assert relevant == ([] if one.query == "unjudged" else [one.passages[0]])
        assert one.judged is bool(relevant)


def test_every_epoch_has_every_query_once_with_other_passages() -> None:
    """In another order each time."""
    lists = sample_lists(QUERIES, list_size=8, epochs=2, seed=0)
    first, second = lists[: len(QUERIES)], lists[len(QUERIES) :]
    orders = [[one.query for one in epoch] for epoch in (first, second)]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(query.id for query in QUERIES)
    assert orders[0] != orders[1]
    before, after = ({one.query: one.passages for one in epoch} for epoch in (first, second))
    assert before["q0"] != after["q0"]


def test_lists_depend_on_the_seed() -> None:
    """The same by the same seed, others by another."""
    assert sample_lists(QUERIES, list_size=4, epochs=2, seed=1) == sample_lists(QUERIES, list_size=4, epochs=2, seed=1)
    assert sample_lists(QUERIES, list_size=4, epochs=2, seed=1) != sample_lists(QUERIES, list_size=4, epochs=2, seed=2)


LOGITS = {"a": 2.0, "b": 0.0, "c": -1.0}
JUDGED, UNJUDGED = (TrainingList("q", ("a", "b", "c"), judged) for judged in (True, False))


def test_targets_are_a_mixture_of_qrels_and_teacher() -> None:
    """(1 - w) times the one, w times the softmax of the other; they sum to 1."""
    soft = softmax([2.0, 0.0, -1.0])
    assert soft == pytest.approx([0.8438, 0.1142, 0.0420], abs=1e-4)
    found = target_distribution(JUDGED, LOGITS, 0.25)
    assert found == pytest.approx([0.75 + 0.25 * soft[0], 0.25 * soft[1], 0.25 * soft[2]])
    assert sum(found) == pytest.approx(1)


def test_without_a_teacher_the_qrels_are_the_target() -> None:
    """Without qrels the teacher is, whatever its weight."""
    assert target_distribution(JUDGED, None, 0.5) == [1.0, 0.0, 0.0]
    assert target_distribution(UNJUDGED, LOGITS, 0.1) == softmax([2.0, 0.0, -1.0]).tolist()


@pytest.mark.parametrize("shares", [[1.0, 0.0, 0.0], [0.7, 0.2, 0.1]])
def test_the_loss_is_the_cross_entropy_with_these_targets(base: Path, shares: list[float]) -> None:
    """sentence-transformers' ListNetLoss, given their logarithms, computes -sum(share * log softmax(logits)).

    Also beside a longer list, whose places the shorter one does not have.
    """
    from sentence_transformers.cross_encoder.losses import ListNetLoss

    encoder = load_base_model("base", base, max_length=64, seed=0).encoder.eval()
    documents = [["bread is baked", "the cat sat", "water and air"], ["a", "b", "c", "d"]]
    other = [0.25] * 4
    labels = [torch.tensor(to_labels(one)) for one in (shares, other)]
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
