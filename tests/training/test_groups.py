"""Queries that share something stay on one side."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins.retrieval import Collection
from rerank_plugins.training.groups import connected, held_out, query_key, relevant_keys

QUERIES, PASSAGES = st.integers(0, 30).map("q{}".format), st.integers(0, 20).map("p{}".format)


def collection(queries: dict[str, str], judgements: dict[str, dict[str, int]]) -> Collection:
    passages = {f"p{number}": f"Passage {number % 18}" for number in range(20)}  # p18 and p19 are copies, p20 is absent
    return Collection("made", passages, queries, judgements)


@given(
    judgements=st.dictionaries(QUERIES, st.dictionaries(PASSAGES, st.integers(0, 2), max_size=3), max_size=25),
    texts=st.lists(st.sampled_from(["one", "ONE", " one ", "two", ""]), min_size=31, max_size=31),
    size=st.integers(0, 20),
    seed=st.integers(0, 5),
)
def test_nothing_is_shared_across_the_split(
    judgements: dict[str, dict[str, int]], texts: list[str], size: int, seed: int
) -> None:
    """Every query is on one side, no relevant passage and no text of a query is on both, and no more than asked."""
    queries = {query: texts[int(query[1:])] or query for query in judgements}
    of = collection(queries, judgements)
    chosen = held_out(of, judgements, size, seed)
    rest = set(judgements) - chosen
    assert chosen <= set(judgements)
    assert len(chosen) <= size
    for keys in (
        lambda query: relevant_keys(of, judgements[query]),
        lambda query: {query_key(of, query)},
    ):
        left, right = ({key for query in side for key in keys(query)} for side in (chosen, rest))
        assert not left & right


@given(st.dictionaries(QUERIES, st.frozensets(st.integers(0, 8), max_size=3), max_size=20))
def test_groups_hold_every_query_once_and_share_nothing(shares: dict[str, frozenset[int]]) -> None:
    """The groups are a partition, no two share a key, and none could be divided further."""
    groups = connected(shares)
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
    judgements = {f"q{number}": {f"p{number}": 1} for number in range(15)}
    of = collection({query: query for query in judgements}, judgements)
    first, again, other = (held_out(of, judgements, 5, seed) for seed in (0, 0, 1))
    assert len(first) == 5
    assert first == again
    assert first != other
