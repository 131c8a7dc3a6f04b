"""Scores of pairs that come again."""

from __future__ import annotations

import math
import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rerank_plugins import Pair, ScoredPair
from rerank_plugins.score_cache import FILE_NAME, ScoreCache

Open = Callable[..., ScoreCache]

SCORED = ScoredPair(0.1 + 0.2, truncated=True)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PREAMBLE = """
import os, signal, sys
from pathlib import Path
from rerank_plugins.score_cache import ScoreCache
from rerank_plugins.scorer import ScoredPair

folder, name = Path(sys.argv[1]), sys.argv[2]
cache = ScoreCache("model", 10_000, folder)
"""


@pytest.fixture
def open_cache() -> Iterator[Open]:
    """Makes caches of the scope "model", and closes them in the end."""
    opened: list[ScoreCache] = []

    def open_cache(
        folder: Path | None = None, entries: int = 1000, scope: str = "model", patience: float = 5.0
    ) -> ScoreCache:
        opened.append(ScoreCache(scope, entries, folder, patience=patience))
        return opened[-1]

    yield open_cache
    for cache in opened:
        cache.close()


def start(program: str, folder: Path, name: str = "") -> subprocess.Popen[str]:
    """Another process, with a cache of the scope "model" in the folder."""
    code = PREAMBLE + textwrap.dedent(program)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(folder), name], stdout=pipe, stderr=pipe, text=True)


def run(program: str, folder: Path) -> str:
    """What another process says; it has to end well."""
    with start(program, folder) as process:
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return said.strip()


def of(*documents: str) -> list[Pair]:
    return [("q", document) for document in documents]


def keep(cache: ScoreCache, scores: Mapping[Pair, float]) -> None:
    cache.put(list(scores), [ScoredPair(score, truncated=None) for score in scores.values()])


def known(cache: ScoreCache, pairs: list[Pair]) -> list[float | None]:
    return [None if found is None else found.score for found in cache.get(pairs)]


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
    """Also if pairs come twice, some are only on disk, and there are more than a statement takes."""
    documents = [str(number) for number in range(1800)]
    keep(open_cache(tmp_path, 2000), {("q", document): float(document) for document in documents})
    cache = open_cache(tmp_path, 2000)
    cache.get(of("7", "900"))
    assert cache._disk is not None
    cache._disk._opened().setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)  # that of older SQLite
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


def test_a_later_process_finds_the_scores(open_cache: Open, tmp_path: Path) -> None:
    """One that starts anew has the scores, in a folder that the first one made."""
    folder = tmp_path / "not" / "there"
    open_cache(folder).put(of("a", "b"), [SCORED, ScoredPair(2.0, truncated=None)])
    assert run("print(cache.get([('q', 'a'), ('q', 'c')]))", folder) == repr([SCORED, None])


def test_processes_that_write_at_once_lose_nothing(open_cache: Open, tmp_path: Path) -> None:
    """Four that write both their own pairs and the same, also where they make the file together."""
    program = """
        for call in range(30):
            pairs, scored = [(name, str(call)), ("all", str(call))], [ScoredPair(float(call), False)] * 2
            cache.put(pairs, scored)
            cache.get([("all", str(call + 1))])
            (folder / f"{call} {name}").touch()
            while not all((folder / f"{call} {other}").exists() for other in "1234"):
                pass  # so that all are here at the same moment
            other = ScoreCache("model", 100, folder / str(call))
            other.put(pairs, scored)
            other.close()
    """
    names = ["1", "2", "3", "4"]
    processes = [start(program, tmp_path, name) for name in names]
    try:
        assert [process.communicate(timeout=60) for process in processes] == [("", "")] * 4
    finally:
        for process in processes:
            process.kill()
    for call in range(30):
        pairs = [(name, str(call)) for name in [*names, "all"]]
        for folder in (tmp_path, tmp_path / str(call)):
            assert known(open_cache(folder), pairs) == [call] * 5


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_scores_outlive_a_killed_process(open_cache: Open, tmp_path: Path) -> None:
    """What was put just before SIGKILL is read afterwards, and the file is sound."""
    program = """
        for call in range(50):
            cache.put([("q", str(call))], [ScoredPair(float(call), None)])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    with start(program, tmp_path) as process:
        assert process.wait(60) == -signal.SIGKILL
    assert known(open_cache(tmp_path), of(*map(str, range(50)))) == list(range(50))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        assert file.execute("PRAGMA integrity_check").fetchone() == ("ok",)


@needs_fork
def test_parent_and_child_go_on_after_a_fork(open_cache: Open, tmp_path: Path) -> None:
    """Both keep their scores, also what the child puts after the parent has closed the file."""
    program = """
        cache.put([("q", "before")], [ScoredPair(1.0, None)])
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            cache.put([("q", "child")], [ScoredPair(2.0, None)])
            os.close(writing)
            os.read(reading, 1)
            cache.put([("q", "late")], [ScoredPair(3.0, None)])
            cache.close()
            os._exit(0)
        cache.put([("q", "parent")], [ScoredPair(4.0, None)])
        cache.close()
        os.close(writing)
        assert os.waitpid(child, 0)[1] == 0
    """
    run(program, tmp_path)
    assert known(open_cache(tmp_path), of("before", "child", "late", "parent")) == [1, 2, 3, 4]


@needs_fork
def test_a_fork_in_the_middle_of_a_call_is_no_harm(open_cache: Open, tmp_path: Path) -> None:
    """While another thread writes all the time, no child finds a lock that nobody gives back."""
    program = """
        import threading, warnings
        warnings.simplefilter("ignore")  # Python 3.12 warns of forks beside threads
        ended = threading.Event()
        def work():
            while not ended.is_set():
                cache.put([("q", "thread")], [ScoredPair(1.0, None)])
        thread = threading.Thread(target=work)
        thread.start()
        for number in range(20):
            child = os.fork()
            if child == 0:
                signal.alarm(30)
                cache.put([("q", str(number))], [ScoredPair(float(number), None)])
                cache.close()
                os._exit(0)
            assert os.waitpid(child, 0)[1] == 0
        ended.set()
        thread.join()
    """
    run(program, tmp_path)
    assert known(open_cache(tmp_path), of(*map(str, range(20)))) == list(range(20))


@pytest.mark.skipif(sys.platform != "linux", reason="calls fork of the C library by its name")
def test_a_fork_python_does_not_know_of_leaves_the_child_memory(open_cache: Open, tmp_path: Path) -> None:
    """The child leaves the file alone and says so once; what the parent put stays."""
    program = """
        import ctypes, logging
        said = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.getLogger("rerank_plugins.runtime").addHandler(handler)
        cache.put([("q", "before")], [ScoredPair(1.0, None)])
        child = ctypes.PyDLL(None).fork()
        if child == 0:
            for call in range(2):
                cache.put([("q", "child")], [ScoredPair(2.0, None)])
            good = cache.get([("q", "before"), ("q", "child")]) == [ScoredPair(1.0, None), ScoredPair(2.0, None)]
            os._exit(0 if good and len(said) == 1 and "not by os.fork()" in said[0] else 1)
        assert os.waitpid(child, 0)[1] == 0
        cache.put([("q", "parent")], [ScoredPair(3.0, None)])
    """
    run(program, tmp_path)
    assert known(open_cache(tmp_path), of("before", "child", "parent")) == [1, None, 3]


def a_file_for_a_folder(folder: Path) -> None:
    folder.write_text("no folder")


def a_file_above_the_folder(folder: Path) -> None:
    folder.symlink_to(folder.parent / "file" / "below")
    (folder.parent / "file").touch()


def no_database(folder: Path) -> None:
    folder.mkdir()
    (folder / FILE_NAME).write_text("no database " * 500)


def a_folder_for_a_file(folder: Path) -> None:
    (folder / FILE_NAME).mkdir(parents=True)


def another_table(folder: Path) -> None:
    folder.mkdir()
    with closing(sqlite3.connect(folder / FILE_NAME)) as file:
        file.execute("CREATE TABLE scores (player TEXT)")


@pytest.mark.parametrize(
    "spoil", [a_file_for_a_folder, a_file_above_the_folder, no_database, a_folder_for_a_file, another_table]
)
def test_a_disk_that_fails_costs_one_warning(
    open_cache: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture, spoil: Callable[[Path], None]
) -> None:
    """It names the file, the error and what to do; scores are kept in memory, whatever is called first."""
    spoil(tmp_path / "cache")
    for number, getting in enumerate([True, False]):
        cache = open_cache(tmp_path / "cache")
        assert len(caplog.records) == number
        if getting:
            assert cache.get(of("a")) == [None]
        for document in ("a", "b"):
            cache.put(of(document), [SCORED])
        assert cache.get(of("a", "b", "c")) == [SCORED, SCORED, None]
        assert len(caplog.records) == number + 1
    record = caplog.records[-1]
    assert (record.name, record.levelname) == ("rerank_plugins.runtime", "WARNING")
    assert str(tmp_path / "cache" / FILE_NAME) in record.getMessage()
    assert "Error: " in record.getMessage()
    assert "name another folder on a local disk" in record.getMessage()


def test_a_file_that_breaks_at_work_costs_one_warning(
    open_cache: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Overwritten under an open cache, it is given up, and what memory has stays."""
    cache = open_cache(tmp_path)
    cache.put(of("a"), [SCORED])
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as file:
        file.execute("DROP TABLE scores")
    for _ in range(2):
        assert cache.get(of("a", "b")) == [SCORED, None]
        cache.put(of("c"), [SCORED])
    assert len(caplog.records) == 1


def test_a_file_locked_too_long_costs_one_warning(
    open_cache: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Reading goes on beside a writer; a writer that has waited long enough gives the file up."""
    cache = open_cache(tmp_path, patience=0.1)
    cache.put(of("a"), [SCORED])
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert open_cache(tmp_path).get(of("a")) == [SCORED]
        assert not caplog.records
        for _ in range(2):
            cache.put(of("b"), [SCORED])
    assert cache.get(of("a", "b")) == [SCORED, SCORED]
    assert [record.getMessage().count("database is locked") for record in caplog.records] == [1]


def test_a_short_lock_is_waited_for(open_cache: Open, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What is put while another process writes is on disk when that one is done."""
    cache = open_cache(tmp_path, patience=60)
    cache.put(of("a"), [SCORED])
    with closing(sqlite3.connect(tmp_path / FILE_NAME, isolation_level=None, check_same_thread=False)) as other:
        other.execute("BEGIN IMMEDIATE")
        release = threading.Timer(0.2, other.execute, ["COMMIT"])
        release.start()
        cache.put(of("b"), [SCORED])
        release.join()
    assert not caplog.records
    assert open_cache(tmp_path).get(of("a", "b")) == [SCORED, SCORED]


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit on the size of files")
def test_a_full_disk_costs_one_warning(open_cache: Open, tmp_path: Path) -> None:
    """Where files cannot grow any more the cache goes on in memory, and what was written before stays."""
    program = """
        import logging, resource
        said = []
        handler = logging.Handler()
        handler.emit = lambda record: said.append(record.getMessage())
        logging.getLogger("rerank_plugins.runtime").addHandler(handler)
        cache.put([("q", "before")], [ScoredPair(1.0, None)])
        size = (folder / "scores.sqlite3-wal").stat().st_size
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
        for document in ("a", "b"):
            cache.put([("q", document)], [ScoredPair(2.0, None)])
        assert cache.get([("q", "a"), ("q", "b")]) == [ScoredPair(2.0, None)] * 2
        print(len(said))
    """
    assert run(program, tmp_path) == "1"
    assert known(open_cache(tmp_path), of("before")) == [1]
