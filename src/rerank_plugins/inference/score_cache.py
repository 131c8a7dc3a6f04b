"""Scores of pairs met before: bounded, in memory, and on disk if wished, where processes share them."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import sqlite3
import sys
import threading
import time
import weakref
from collections.abc import Sequence
from pathlib import Path

from cachetools import LRUCache

from rerank_plugins._internal.files import expand
from rerank_plugins.scorers.base import Pair, ScoredPair

_log = logging.getLogger("rerank_plugins.runtime")

FILE_NAME = "scores.sqlite3"

# SQLite refuses statements with more than 999 variables before 3.32.
_LOT = 500

_TABLE = """
CREATE TABLE IF NOT EXISTS scores (
    number INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    score REAL NOT NULL,
    truncated INTEGER
)
"""

# A known key keeps its number, so that numbers have no gaps and count the rows.
_WRITE = """
INSERT INTO scores (key, score, truncated) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET score = excluded.score, truncated = excluded.truncated
WHERE score IS NOT excluded.score OR truncated IS NOT excluded.truncated
"""


class ScoreCache:
    """The scores of the pairs used last. Holds 16-byte digests instead of texts; threads may share it.

    With a ``folder`` scores are also on disk, for the processes of one machine to share and for the next start.
    What was put is there even if the process is killed right afterwards. The folder must not be on a network file
    system. A disk that fails costs one warning; from then on scores are kept in memory only.
    """

    def __init__(self, scope: str, entries: int, folder: Path | None = None, *, patience: float = 5.0) -> None:
        """Touches no disk yet.

        Args:
            scope: Names everything a score depends on beside the pair; caches of other scopes share nothing.
            entries: How many scores are kept, at least 1. In memory the one used longest ago goes first; in the
                file, which all scopes share, the one written first, and as many stay as the cache that writes has.
            folder: Where the file is; made if it is missing.
            patience: Seconds to wait for other processes that write, before the disk counts as failed.
        """
        self._scope = hashlib.blake2b(_with_length(scope), digest_size=16)
        self._kept: LRUCache[bytes, ScoredPair] = LRUCache(entries)
        self._disk = None if folder is None else _Disk(expand(folder) / FILE_NAME, entries, patience)
        self._lock = threading.Lock()
        if self._disk is not None:
            # At exit the process takes the connection with it; a thread may be using it until then.
            weakref.finalize(self, self._disk.close).atexit = False
        with _forking:
            _caches.add(self)

    def get(self, pairs: Sequence[Pair]) -> list[ScoredPair | None]:
        """What is known of the pairs, in order; None for those that are not kept."""
        keys = [self._key(pair) for pair in pairs]
        found: dict[bytes, ScoredPair] = {}
        missing: list[bytes] = []
        with self._lock:
            for key in dict.fromkeys(keys):
                kept = self._kept.get(key)
                if kept is None:
                    missing.append(key)
                else:
                    found[key] = kept
            on_disk = self._read(missing)
            self._kept.update(on_disk)
        found |= on_disk
        return [found.get(key) for key in keys]

    def put(self, pairs: Sequence[Pair], scored: Sequence[ScoredPair]) -> None:
        """Keep the scores, one a pair; those that are not finite are left out. The later of two for a pair counts."""
        new = {
            self._key(pair): ScoredPair(float(score), truncated)
            for pair, (score, truncated) in zip(pairs, scored, strict=True)
            if math.isfinite(score)
        }
        with self._lock:
            self._kept.update(new)
            self._write(new)

    def close(self) -> None:
        """Close the file. It is opened again if the cache is used again; what is in memory stays."""
        with self._lock:
            if self._disk is not None:
                self._disk.close()

    def _key(self, pair: Pair) -> bytes:
        query, document = pair
        # 128 bits of a cryptographic hash: two pairs never share them. The last part needs no length.
        key = self._scope.copy()
        key.update(_with_length(query))
        key.update(_bytes(document))
        return key.digest()

    def _read(self, keys: list[bytes]) -> dict[bytes, ScoredPair]:
        if self._disk is not None and keys:
            try:
                return self._disk.read(keys)
            except (sqlite3.Error, OSError) as error:
                self._give_up(self._disk, error)
        return {}

    def _write(self, scores: dict[bytes, ScoredPair]) -> None:
        if self._disk is not None and scores:
            try:
                self._disk.write(scores)
            except (sqlite3.Error, OSError) as error:
                self._give_up(self._disk, error)

    def _give_up(self, disk: _Disk, error: Exception) -> None:
        self._disk = None
        disk.close()
        _log.warning(
            "The score cache %s cannot be used (%s: %s). From now on this process keeps scores in memory only. See "
            "that the folder can be written and has room, delete the file if it is damaged or no score cache, or name "
            "another folder on a local disk; then restart.",
            disk.path,
            type(error).__name__,
            error,
        )


class _Disk:
    """The file. Raises sqlite3.Error or OSError for whatever fails; not for two threads at once."""

    def __init__(self, path: Path, entries: int, patience: float) -> None:
        self.path = path
        self._entries = entries
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def read(self, keys: Sequence[bytes]) -> dict[bytes, ScoredPair]:
        """What the file has of the keys."""
        connection = self._opened()
        found = {}
        for start in range(0, len(keys), _LOT):
            lot = keys[start : start + _LOT]
            places = ", ".join("?" * len(lot))
            rows = connection.execute(
                f"SELECT key, score, truncated FROM scores WHERE key IN ({places})",  # noqa: S608 - question marks only
                lot,
            )
            for key, score, truncated in rows:
                found[key] = ScoredPair(score, None if truncated is None else bool(truncated))
        return found

    def write(self, scores: dict[bytes, ScoredPair]) -> None:
        """Add the scores in one transaction, which also keeps the file bounded."""
        connection = self._opened()
        with connection:
            # The write lock comes first: SQLite waits for it, but never for a reader that would become a writer.
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_WRITE, [(key, score, truncated) for key, (score, truncated) in scores.items()])
            first, last = connection.execute(
                "SELECT (SELECT min(number) FROM scores), (SELECT max(number) FROM scores)"
            ).fetchone()
            if last - first >= self._entries:
                # A tenth more than needed, so that not every call has to delete.
                stay = self._entries - self._entries // 10
                connection.execute("DELETE FROM scores WHERE number <= ?", (last - stay,))

    def close(self) -> None:
        """Close the file, if it is open; the next use opens it again."""
        if self._connection is not None and self._process == os.getpid():
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
            self._process = os.getpid()
        elif self._process != os.getpid():
            # Forked without Python knowing of it (uWSGI can). SQLite takes the parent's locks for this process's own
            # then, and a connection made now loses what it writes once the parent closes its one.
            _never_closed.append(self._connection)
            raise OSError("the process was forked while the file was open, and not by os.fork()")
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        give_up_at = time.monotonic() + self._patience
        while True:
            connection = sqlite3.connect(
                self.path, timeout=self._patience, isolation_level=None, check_same_thread=False
            )
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(_TABLE)
            except sqlite3.Error as error:
                connection.close()
                # Changing to WAL does not wait for other processes that do the same.
                if not _is_busy(error) or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
            else:
                return connection


def _is_busy(error: sqlite3.Error) -> bool:
    # Errors that the module raises by itself have no code; the low byte is the code without its refinement.
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY


def _bytes(text: str) -> bytes:
    # Lone surrogates are legal in texts, and stay apart.
    return text.encode("utf-8", "surrogatepass")


def _with_length(text: str) -> bytes:
    encoded = _bytes(text)
    return len(encoded).to_bytes(8, "big") + encoded


# SQLite must not see a fork with its file open: see `_Disk._opened`. So every cache closes its file before, with its
# lock held, that the child may not find a lock that nobody gives back; parent and child open their own afterwards.
_caches: weakref.WeakSet[ScoreCache] = weakref.WeakSet()
_never_closed: list[sqlite3.Connection] = []
_forking = threading.Lock()
_held: list[ScoreCache] = []


def _before_fork() -> None:
    _forking.acquire()
    for cache in list(_caches):
        cache._lock.acquire()  # noqa: SLF001 - this module's own class
        _held.append(cache)
        if cache._disk is not None:  # noqa: SLF001
            cache._disk.close()  # noqa: SLF001


def _after_fork() -> None:
    while _held:
        _held.pop()._lock.release()  # noqa: SLF001
    _forking.release()


if sys.platform != "win32":
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork)
