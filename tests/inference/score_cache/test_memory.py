from __future__ import annotations

import math
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import Pair, ScoredPair
from rerank_plugins.inference.score_cache import FILE_NAME, ScoreCache
from score_cache_processes import SCORED, Open, keep, known, of


@pytest.mark.parametrize("truncated", [True, False, None])
@pytest.mark.parametrize("score", [0.1 + 0.2, -5e-324, 1.7976931348623157e308, 3.0])
def test_what_was_put_is_found(*, open_cache: Open, tmp_path: Path, score: float, truncated: bool | None) -> None:
    """To the last bit, with what is known of its truncation, in memory and on disk."""
    cache, scored = open_cache(tmp_path), ScoredPair(score, truncated)
    assert cache.get(of("a")) == [None]
    cache.put(of("a"), [scored])
    assert cache.get(of("a")) == open_cache(tmp_path).get(of("a")) == [scored]


def test_what_was_used_longest_ago_goes_first(open_cache: Open) -> None:
    """With room for two the third score takes the place of the one that was not asked for again."""
    cache = open_cache(entries=2)
    keep(cache, {("q", "a"): 1, ("q", "b"): 2})
    cache.get(of("a"))
    keep(cache, {("q", "c"): 3})
    assert known(cache, of("a", "b", "c")) == [1, None, 3]


# Lone surrogates, the character the two would make, and what stands for a text that cannot be encoded.
LIKE_SURROGATES = ["\ud83d", "\ude00", "\ud83d\ude00", "\U0001f600", "\ufffd", "?", ""]
# Few letters, that texts run together and swapped are met often.
any_text = st.text(st.sampled_from("ab\0"), max_size=3) | st.sampled_from(LIKE_SURROGATES) | st.text(st.characters())
any_scores = st.dictionaries(st.tuples(any_text, any_text), st.floats(allow_nan=False, allow_infinity=False))


@given(scores=any_scores, others=st.lists(st.tuples(any_text, any_text)))
def test_a_pair_has_its_own_score(scores: dict[Pair, float], others: list[Pair]) -> None:
    """Every pair that was put gets its score, and no other pair one, whatever the texts."""
    cache = ScoreCache("model", 1000)
    keep(cache, scores)
    pairs = [*scores, *others]
    assert known(cache, pairs) == [scores.get(pair) for pair in pairs]


@pytest.mark.parametrize(
    "other", [("a", "bc"), ("abc", ""), ("", "abc"), ("c", "ab")], ids=["shifted", "first", "last", "swapped"]
)
def test_pairs_do_not_run_together(open_cache: Open, other: Pair) -> None:
    """The same letters shared out otherwise are another pair."""
    cache = open_cache()
    cache.put([("ab", "c")], [SCORED])
    assert cache.get([other, ("ab", "c")]) == [None, SCORED]


def test_lone_surrogates_stay_apart(open_cache: Open) -> None:
    """From each other, and from whatever an encoder would put in their place."""
    cache, pairs = open_cache(), [*of(*LIKE_SURROGATES), *((text, "d") for text in LIKE_SURROGATES)]
    keep(cache, {pair: number for number, pair in enumerate(pairs)})
    assert known(cache, pairs) == list(range(len(pairs)))


@pytest.mark.parametrize("other", ["Model", "mode", "modelq", "model" + "\0" * 7 + "\x01q", "\ud83d", ""])
def test_scopes_stay_apart(open_cache: Open, tmp_path: Path, other: str) -> None:
    """Another scope finds nothing in the same file, not even one that has a query's beginning at its end."""
    open_cache(tmp_path).put([("q", "a"), ("lq", "a"), ("q", "\0" * 8 + "a")], [SCORED] * 3)
    assert open_cache(tmp_path, scope=other).get([("q", "a"), ("", "a"), ("lq", "a")]) == [None] * 3


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_not_kept(open_cache: Open, tmp_path: Path, wrong: float) -> None:
    """Neither in memory nor on disk, and the finite ones beside it are."""
    cache = open_cache(tmp_path)
    keep(cache, {("q", "a"): 1, ("q", "b"): wrong, ("q", "c"): 3})
    for reader in (cache, open_cache(tmp_path)):
        assert known(reader, of("a", "b", "c")) == [1, None, 3]


def test_an_answer_is_in_the_order_of_the_call(open_cache: Open, tmp_path: Path) -> None:
    """Also if pairs come twice, some are only on disk, and there are as many as an older SQLite takes."""
    documents = [str(number) for number in range(900)]
    keep(open_cache(tmp_path, 2000), {("q", document): float(document) for document in documents})
    cache = open_cache(tmp_path, 2000)
    cache.get(of("7", "800"))
    assert cache._disk is not None
    cache._disk._connect().setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # that of older SQLite
    expected = [*map(float, reversed(documents)), None, 7, 7]
    assert known(cache, of(*reversed(documents), "unknown", "7", "7")) == expected


def test_the_last_score_of_a_pair_counts(open_cache: Open, tmp_path: Path) -> None:
    """Within a call and from call to call, in memory and on disk."""
    cache = open_cache(tmp_path)
    for scores in ([1.0, 2.0], [3.0, 4.0]):
        cache.put(of("a", "a"), [ScoredPair(score, truncated=None) for score in scores])
    assert known(cache, of("a")) == known(open_cache(tmp_path), of("a")) == [4]


def test_what_was_found_on_disk_is_in_memory(open_cache: Open, tmp_path: Path) -> None:
    """The file is not needed for it again."""
    open_cache(tmp_path).put(of("a"), [SCORED])
    cache = open_cache(tmp_path)
    cache.get(of("a"))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file, file:
        file.execute("DELETE FROM scores")
    assert cache.get(of("a")) == [SCORED]


def test_a_closed_cache_can_be_used(open_cache: Open, tmp_path: Path) -> None:
    """Closing twice does nothing more; the next use opens the file again."""
    cache = open_cache(tmp_path)
    cache.put(of("a"), [SCORED])
    cache.close()
    cache.close()
    cache.put(of("b"), [SCORED])
    assert open_cache(tmp_path).get(of("a", "b")) == [SCORED, SCORED]


def test_threads_share_a_cache(open_cache: Open, tmp_path: Path) -> None:
    """Eight threads that push each other's scores out of memory find every one, on disk."""
    with closing(ScoreCache("model", 1000, tmp_path)) as cache:

        def work(number: int) -> list[float | None]:
            keep(cache, {("q", str(number)): number})
            return known(cache, of(str(number)))

        with ThreadPoolExecutor(8) as threads:
            assert list(threads.map(work, range(200))) == [[number] for number in range(200)]
    assert None not in open_cache(tmp_path).get(of(*map(str, range(200))))


def test_the_file_is_bounded(open_cache: Open, tmp_path: Path) -> None:
    """Whatever the sizes of the calls; what was written first goes first, of all scopes."""
    cache, other = open_cache(tmp_path, 50), open_cache(tmp_path, 50, "other")
    number = 0
    for size in (7, 7, 7, *[1] * 60, 200):
        for writer in (cache, other):
            keep(writer, {("q", str(number + place)): number + place for place in range(size)})
            with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
                assert file.execute("SELECT count(*) FROM scores").fetchone()[0] <= 50
        number += size
    last = range(number - 40, number)
    assert known(open_cache(tmp_path, 50, "other"), of("0", "60", *map(str, last))) == [None, None, *last]
    assert known(open_cache(tmp_path, 50), of("0", "60", *map(str, last))) == [None] * 42
