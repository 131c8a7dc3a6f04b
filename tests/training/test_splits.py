"""What is learned from, what chooses, what is evaluated; and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from collections_to_learn import made, write_qrels
from rerank_plugins import InvalidInputError
from rerank_plugins.training.dataset import check_enough
from rerank_plugins.training.splits import Division, divide


def divided(folder: Path, **changes: Any) -> Division:
    options: dict[str, Any] = {"split": None, "test_split": None, "development": 0.1, "seed": 0, "drop_leaks": False}
    return divide(folder, **{**options, "unjudged": False, **changes})


def test_train_is_learned_from_and_test_evaluated(tmp_path: Path) -> None:
    """With both there, a share of the first chooses the best step, and the second stays whole."""
    collection = made(trained=200)
    division = divided(collection.write(tmp_path / "both"))
    assert (division.split, division.test_split) == ("train", "test")
    assert len(division.development) == 20
    assert {**division.train, **division.development} == collection.train
    assert not division.train.keys() & division.development.keys()
    assert division.test == collection.test


@pytest.mark.parametrize("name", ["train", "dev", "test", "mine"])
def test_of_one_split_a_fifth_is_held_out(tmp_path: Path, name: str) -> None:
    """Queries to evaluate come out of the split itself where there is no other."""
    folder = made(trained=0, tested=0, unjudged=100).write(tmp_path / "one")
    write_qrels(folder, name, {f"q{number}": {f"p{number}b": 1} for number in range(100)})
    division = divided(folder, split="mine" if name == "mine" else None)
    assert (division.split, division.test_split) == (name, None)
    assert len(division.test) == 20
    assert not division.test.keys() & (division.train.keys() | division.development.keys())
    assert len({**division.train, **division.development, **division.test}) == 100


def test_a_dev_split_is_evaluated_where_there_is_no_test(tmp_path: Path) -> None:
    """It is the next best."""
    collection = made()
    folder = collection.write(tmp_path / "dev")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    assert divided(folder).test_split == "dev"


def test_a_query_in_both_splits_is_refused_with_counts(tmp_path: Path) -> None:
    """The same text in other case and spacing is the same query; the message counts and shows one."""
    collection = made()
    collection.queries["q3"] = "  What is BAKED 80 "
    with pytest.raises(
        InvalidInputError,
        match=r"1 of the 80 queries of train leak into the evaluation: 1 have the text of a query of test, such as "
        r"'q3' and 'q80' \('What is BAKED 80'\).*--drop-leaks",
    ):
        divided(collection.write(tmp_path / "leaks"))


@pytest.mark.parametrize("copied", [False, True])
def test_a_relevant_passage_in_both_splits_is_refused(tmp_path: Path, copied: bool) -> None:  # noqa: FBT001 - a case
    """Under its own id, or as a copy under another."""
    collection = made()
    if copied:
        collection.passages["p5b"] = collection.passages["p85b"].upper()
    else:
        collection.train["q5"] = {"p5b": 1, "p85b": 2}
    with pytest.raises(InvalidInputError, match="1 share a relevant passage with a query of test, such as 'q5' and"):
        divided(collection.write(tmp_path / "leaks"))


def test_leaks_are_left_out_of_the_training_when_asked(tmp_path: Path) -> None:
    """They are counted, and the evaluation stays as it was."""
    collection = made()
    collection.queries["q3"] = collection.queries["q80"]
    collection.train["q5"] = {"p85b": 1}
    division = divided(collection.write(tmp_path / "leaks"), drop_leaks=True)
    assert division.leaking == 2
    assert not {"q3", "q5"} & {*division.train, *division.development}
    assert division.test == collection.test


def test_a_passage_judged_irrelevant_in_both_is_no_leak(tmp_path: Path) -> None:
    """Grade 0 tells no answer."""
    collection = made()
    collection.train["q5"]["p85b"] = 0
    assert divided(collection.write(tmp_path / "none")).leaking == 0


def test_the_same_split_twice_is_refused(tmp_path: Path) -> None:
    """What was learned from proves nothing."""
    with pytest.raises(InvalidInputError, match="are both 'train'"):
        divided(made().write(tmp_path / "same"), split="train", test_split="train")


@pytest.mark.parametrize("split", ["dev", None])
def test_a_split_that_is_not_there_is_named(tmp_path: Path, split: str | None) -> None:
    """With those that are."""
    folder = made(trained=80 if split else 0, tested=0).write(tmp_path / "none")
    there = "train" if split else "no judgements at all"
    with pytest.raises(InvalidInputError, match=f"has no qrels/{split or 'train'}.tsv to learn from, but {there}"):
        divided(folder, split=split)


def test_queries_that_hang_together_cannot_be_held_out(tmp_path: Path) -> None:
    """Where all share one relevant passage there is no evaluation to be had from them."""
    collection = made(tested=0)
    collection.train = {query: {"p0b": 1} for query in collection.train}
    with pytest.raises(InvalidInputError, match=r"Of the 80 queries .* 0 could be held out .* at least 10"):
        divided(collection.write(tmp_path / "one"))


def test_too_few_queries_are_refused_with_counts(tmp_path: Path) -> None:
    """How many there are, how many are needed, where the others went, and what to do."""
    collection = made(trained=40)
    collection.train["q1"] = {"elsewhere": 1}
    collection.passages["p2b"] = " "
    division = divided(collection.write(tmp_path / "few"))
    with pytest.raises(
        InvalidInputError,
        match=r"few has 28 queries to learn from in train and 10 .* expected at least 50 and 10.* 2 whose relevant "
        r"passages are blank or not in the corpus.* name a teacher",
    ):
        check_enough(division.data)


def test_queries_nobody_judged_are_taken_for_a_teacher_only(tmp_path: Path) -> None:
    """And none that some split judges, is blank, or has the text of one that is held out."""
    collection = made(unjudged=4)
    collection.queries["q92"] = collection.queries["q85"].upper()
    collection.queries["q93"] = " "
    folder = collection.write(tmp_path / "unjudged")
    write_qrels(folder, "dev", {"q94": {"p94b": 1}})
    assert divided(folder, unjudged=True).unjudged == ["q95"]
    assert divided(folder).unjudged == []


def test_a_blank_query_that_is_judged_for_the_test_is_told_first(tmp_path: Path) -> None:
    """Not after hours of training."""
    collection = made()
    collection.queries["q85"] = " "
    with pytest.raises(InvalidInputError, match=r"The judged query 'q85' .* is blank"):
        divided(collection.write(tmp_path / "blank"))
