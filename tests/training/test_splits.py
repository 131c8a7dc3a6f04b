"""Training, development and test queries; and which collections are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collections_to_learn import KeywordTeacher, make_collection, make_config, write_qrels
from rerank_plugins import InvalidInputError, Reranker
from rerank_plugins.retrieval import Collection
from rerank_plugins.training.dataset import check_size
from rerank_plugins.training.splits import (
    DataSplits,
    group_queries,
    hold_out,
    query_key,
    relevant_keys,
    split_queries,
)


def split_folder(folder: Path, **changes: Any) -> DataSplits:
    return split_queries(make_config(folder, folder, folder.with_name("output"), **changes))


def test_train_is_learned_from_and_test_evaluated(tmp_path: Path) -> None:
    """With both there, a share of the first chooses the best step, and the second stays whole."""
    collection = make_collection(trained=200)
    splits = split_folder(collection.write(tmp_path / "both"))
    assert (splits.data.split, splits.data.test_split) == ("train", "test")
    assert len(splits.development) == 20
    assert {**splits.train, **splits.development} == collection.train
    assert not splits.train.keys() & splits.development.keys()
    assert splits.test == collection.test


@pytest.mark.parametrize("name", ["train", "dev", "test", "mine"])
def test_of_one_split_a_fifth_is_held_out(tmp_path: Path, name: str) -> None:
    """Queries to evaluate come out of the split itself where there is no other."""
    folder = make_collection(trained=0, tested=0, unjudged=100).write(tmp_path / "one")
    write_qrels(folder, name, {f"q{number}": {f"p{number}b": 1} for number in range(100)})
    splits = split_folder(folder, split="mine" if name == "mine" else None)
    assert (splits.data.split, splits.data.test_split) == (name, None)
    assert len(splits.test) == 20
    assert not splits.test.keys() & (splits.train.keys() | splits.development.keys())
    assert len({**splits.train, **splits.development, **splits.test}) == 100


def test_a_dev_split_is_evaluated_where_there_is_no_test(tmp_path: Path) -> None:
    """It is the next best."""
    collection = make_collection()
    folder = collection.write(tmp_path / "dev")
    (folder / "qrels" / "test.tsv").rename(folder / "qrels" / "dev.tsv")
    assert split_folder(folder).data.test_split == "dev"


def test_a_query_in_both_splits_is_refused_with_counts(tmp_path: Path) -> None:
    """The same text in other case and spacing is the same query; the message counts and shows one."""
    collection = make_collection()
    collection.queries["q3"] = "  What is BAKED 80 "
    with pytest.raises(
        InvalidInputError,
        match=r"1 of the 80 queries of train leak into the evaluation: 1 have the text of a query of test, such as "
        r"'q3' and 'q80' \('What is BAKED 80'\).*--drop-leaks",
    ):
        split_folder(collection.write(tmp_path / "leaks"))


@pytest.mark.parametrize("copied", [False, True])
def test_a_relevant_passage_in_both_splits_is_refused(tmp_path: Path, copied: bool) -> None:  # noqa: FBT001 - a case
    """Under its own id, or as a copy under another."""
    collection = make_collection()
    if copied:
        collection.passages["p5b"] = collection.passages["p85b"].upper()
    else:
        collection.train["q5"] = {"p5b": 1, "p85b": 2}
    with pytest.raises(InvalidInputError, match="1 share a relevant passage with a query of test, such as 'q5' and"):
        split_folder(collection.write(tmp_path / "leaks"))


def test_leaks_are_left_out_of_the_training_when_asked(tmp_path: Path) -> None:
    """They are counted, and the evaluation stays as it was."""
    collection = make_collection()
    collection.queries["q3"] = collection.queries["q80"]
    collection.train["q5"] = {"p85b": 1}
    splits = split_folder(collection.write(tmp_path / "leaks"), drop_leaks=True)
    assert splits.data.leaking == 2
    assert not {"q3", "q5"} & {*splits.train, *splits.development}
    assert splits.test == collection.test


def test_a_passage_judged_irrelevant_in_both_is_no_leak(tmp_path: Path) -> None:
    """Grade 0 tells no answer."""
    collection = make_collection()
    collection.train["q5"]["p85b"] = 0
    assert split_folder(collection.write(tmp_path / "none")).data.leaking == 0


def test_the_same_split_twice_is_refused(tmp_path: Path) -> None:
    """What was learned from proves nothing."""
    with pytest.raises(InvalidInputError, match="are both 'train'"):
        split_folder(make_collection().write(tmp_path / "same"), split="train", test_split="train")


@pytest.mark.parametrize("split", ["dev", None])
def test_a_split_that_is_not_there_is_named(tmp_path: Path, split: str | None) -> None:
    """With those that are."""
    folder = make_collection(trained=80 if split else 0, tested=0).write(tmp_path / "none")
    there = "train" if split else "no qrels at all"
    with pytest.raises(InvalidInputError, match=f"has no qrels/{split or 'train'}.tsv to learn from, but {there}"):
        split_folder(folder, split=split)


def test_queries_that_hang_together_cannot_be_held_out(tmp_path: Path) -> None:
    """Where all share one relevant passage there is no evaluation to be had from them."""
    collection = make_collection(tested=0)
    collection.train = {query: {"p0b": 1} for query in collection.train}
    with pytest.raises(InvalidInputError, match=r"Of the 80 queries .* 0 could be held out .* at least 10"):
        split_folder(collection.write(tmp_path / "one"))


def test_too_few_queries_are_refused_with_counts(tmp_path: Path) -> None:
    """How many there are, how many are needed, where the others went, and what to do."""
    collection = make_collection(trained=40)
    collection.train["q1"] = {"elsewhere": 1}
    collection.passages["p2b"] = " "
    splits = split_folder(collection.write(tmp_path / "few"))
    with pytest.raises(
        InvalidInputError,
        match=r"few has 28 queries to learn from in train and 10 .* expected at least 50 and 10.* 2 whose relevant "
        r"passages are blank or not in the corpus.* name a teacher",
    ):
        check_size(splits.data)


def test_queries_nobody_judged_are_taken_for_a_teacher_only(tmp_path: Path) -> None:
    """And none that some split judges, is blank, or has the text of one that is held out."""
    collection = make_collection(unjudged=4)
    collection.queries["q92"] = collection.queries["q85"].upper()
    collection.queries["q93"] = " "
    folder = collection.write(tmp_path / "unjudged")
    write_qrels(folder, "dev", {"q94": {"p94b": 1}})
    assert split_folder(folder, teacher=Reranker(KeywordTeacher("bread"))).unjudged == ["q95"]
    assert split_folder(folder).unjudged == []


def test_a_blank_query_that_is_judged_for_the_test_is_told_first(tmp_path: Path) -> None:
    """Not after hours of training."""
    collection = make_collection()
    collection.queries["q85"] = " "
    with pytest.raises(InvalidInputError, match=r"The judged query 'q85' .* is blank"):
        split_folder(collection.write(tmp_path / "blank"))


QUERIES, PASSAGES = st.integers(0, 30).map("q{}".format), st.integers(0, 20).map("p{}".format)


def build(queries: dict[str, str], qrels: dict[str, dict[str, int]]) -> Collection:
    passages = {f"p{number}": f"Passage {number % 18}" for number in range(20)}  # p18 and p19 are copies, p20 is absent
    return Collection("any", passages, queries, qrels)


@given(
    qrels=st.dictionaries(QUERIES, st.dictionaries(PASSAGES, st.integers(0, 2), max_size=3), max_size=25),
    texts=st.lists(st.sampled_from(["one", "ONE", " one ", "two", ""]), min_size=31, max_size=31),
    size=st.integers(0, 20),
    seed=st.integers(0, 5),
)
def test_nothing_is_shared_across_the_split(
    qrels: dict[str, dict[str, int]], texts: list[str], size: int, seed: int
) -> None:
    """Every query is on one side, no relevant passage and no text of a query is on both, and no more than asked."""
    queries = {query: texts[int(query[1:])] or query for query in qrels}
    collection = build(queries, qrels)
    chosen = hold_out(collection, qrels, size, seed)
    rest = set(qrels) - chosen
    assert chosen <= set(qrels)
    assert len(chosen) <= size
    for keys in (
        lambda query: relevant_keys(collection, qrels[query]),
        lambda query: {query_key(collection, query)},
    ):
        left, right = ({key for query in side for key in keys(query)} for side in (chosen, rest))
        assert not left & right


@given(st.dictionaries(QUERIES, st.frozensets(st.integers(0, 8), max_size=3), max_size=20))
def test_groups_hold_every_query_once_and_share_nothing(shares: dict[str, frozenset[int]]) -> None:
    """The groups are a partition, no two share a key, and none could be divided further."""
    groups = group_queries(shares)
    assert sorted(query for group in groups for query in group) == sorted(shares)
    keys = [frozenset().union(*(shares[query] for query in group)) for group in groups]
    assert sum(map(len, keys)) == len(frozenset().union(*keys))
    for group in groups:
        reached, before = {group[0]}, 0
        while len(reached) != before:
            before = len(reached)
            known = frozenset().union(*(shares[query] for query in reached))
            reached |= {query for query in group if shares[query] & known}
        assert reached == set(group)


def test_whole_groups_are_held_out_until_there_are_enough() -> None:
    """Of singles exactly as many as asked; the same by the same seed, others by another."""
    qrels = {f"q{number}": {f"p{number}": 1} for number in range(15)}
    collection = build({query: query for query in qrels}, qrels)
    first, again, other = (hold_out(collection, qrels, 5, seed) for seed in (0, 0, 1))
    assert len(first) == 5
    assert first == again
    assert first != other
