from __future__ import annotations

import signal
import sqlite3
import sys
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from rerank_plugins import ScoredPair
from rerank_plugins.inference.score_cache import FILE_NAME
from score_cache_processes import SCORED, Open, known, needs_fork, of, run, start


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
