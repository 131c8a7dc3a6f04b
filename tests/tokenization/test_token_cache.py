"""Token ids of passages that come again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import InvalidInputError, Pair, load_reranker
from rerank_plugins.tokenization.pair_encoder import PairEncoder
from rerank_plugins.tokenization.token_cache import TokenCache, Tokens
from stand_in_models import PASSAGES

BOX = Path(__file__).parents[2] / "models" / "rerank-mini-en"


class Letters:
    """Tokenizes to code points, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: list[str]) -> list[Tokens]:  # noqa: D102 - the class says it
        self.asked.append(texts)
        return [Tokens([ord(letter) for letter in text], complete=True) for text in texts]


def test_what_is_kept_is_not_tokenized_again() -> None:
    """Of a call only the new texts are, each once; the answer is in the order of the call."""
    cache, letters = TokenCache(10), Letters()
    cache.tokens(["a", "bc"], letters)
    found = cache.tokens(["bc", "d", "a", "d"], letters)
    assert ["".join(map(chr, tokens.ids)) for tokens in found] == ["bc", "d", "a", "d"]
    assert letters.asked == [["a", "bc"], ["d"]]


def test_what_was_used_longest_ago_goes_first() -> None:
    """With room for two the third text takes the place of the one that was not asked for again."""
    cache, letters = TokenCache(2), Letters()
    for texts in (["a"], ["b"], ["a"], ["c"], ["a"], ["b"]):
        cache.tokens(texts, letters)
    assert [texts for texts in letters.asked if texts] == [["a"], ["b"], ["c"], ["b"]]


def test_a_call_larger_than_the_cache_is_answered_whole() -> None:
    """What has no room is not kept, and not lost either."""
    found = TokenCache(1).tokens(["a", "b", "c"], Letters())
    assert [list(tokens.ids) for tokens in found] == [[97], [98], [99]]


@pytest.fixture(scope="module")
def encoders() -> tuple[PairEncoder, PairEncoder]:
    """Without a cache, and with a small one that is full all the time."""
    return PairEncoder.from_folder(BOX, 16), PairEncoder.from_folder(BOX, 16, token_cache=3)


texts = st.lists(st.text(max_size=40) | st.sampled_from(["\ud83d", "\ufffd", "\udc00"]), max_size=6)


@given(query=st.text(max_size=30), passages=texts)
def test_rows_are_those_without_a_cache(
    encoders: tuple[PairEncoder, PairEncoder], query: str, passages: list[str]
) -> None:
    """Ids, segments and what was cut, for any text, met before or not."""
    plain, kept = encoders
    pairs = [(query, passage) for passage in passages * 2]
    assert kept.encode(pairs) == plain.encode(pairs)
    assert kept.encode(pairs) == plain.encode(pairs)


def test_threads_share_a_cache(encoders: tuple[PairEncoder, PairEncoder]) -> None:
    """Eight threads that push each other's passages out get the rows of one alone."""
    plain, kept = encoders
    calls: list[list[Pair]] = [[("q", f"{passage} {number % 5}") for passage in PASSAGES] for number in range(200)]
    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(kept.encode, calls)) == [plain.encode(pairs) for pairs in calls]


def test_scores_are_those_without_a_cache(fresh_ir: Path, pairs: list[Pair]) -> None:
    """Of a loaded reranker, at the first call and at the second."""
    expected = load_reranker(fresh_ir, precision="fp32").score(pairs)
    reranker = load_reranker(fresh_ir, precision="fp32", token_cache=50)
    assert reranker.score(pairs) == expected
    assert reranker.score(pairs) == expected


@pytest.mark.parametrize("wrong", [-1, True, 1.5, "many", None])
def test_wrong_sizes_are_refused(wrong: Any) -> None:
    """What is no number of passages is an error before anything is looked for."""
    with pytest.raises(InvalidInputError, match="token_cache must be a whole number of at least 0"):
        load_reranker("no/such-model", token_cache=wrong)
