"""A bounded cache of scores by pair: in memory, and optionally on disk, where processes share it."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import math
import os
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from cachetools import LRUCache

from rerank_plugins._internal import fork
from rerank_plugins._internal.files import expand
from rerank_plugins.scorers.base import Pair, ScoredPair

_log = logging.getLogger("rerank_plugins.runtime")

FILE_NAME = "scores.sqlite3"

T = TypeVar("T")

# Lone surrogates are legal in texts, and stay apart.
_ENCODING = ("utf-8", "surrogatepass")

# Connections of a parent process, which must not be closed in a child.
_leaked: list[sqlite3.Connection] = []

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

    With a ``folder`` scores are also on disk, shared by the processes of one machine and there at the next start. A
    score that was put stays even if the process is killed right afterwards. The folder must not be on a network file
    system. If the disk fails, there is one warning, and scores are in memory only from then on.
    """

    fork_order = 1  # after the schedulers, whose batch may want the lock

    def __init__(self, scope: str, entries: int, folder: str | Path | None = None, *, patience: float = 5.0) -> None:
        """Create a cache of ``entries`` scores, at least 1; the file is opened at its first use.

        In memory the score used longest ago is dropped first; in the file, which all scopes share, the one written
        first. ``scope`` names all that a score depends on beside the pair. After ``patience`` seconds of waiting for
        other processes that write the disk counts as failed.
        """
        self._scope = hashlib.blake2b(_with_length(scope), digest_size=16)
        self._memory: LRUCache[bytes, ScoredPair] = LRUCache(entries)
        self._disk = None if folder is None else _Disk(expand(folder) / FILE_NAME, entries, patience)
        self._lock = threading.Lock()
        if self._disk is not None:
            # At exit the process takes the connection with it; a thread may be using it until then.
            weakref.finalize(self, self._disk.close).atexit = False
        fork.register(self)

    def get(self, pairs: Sequence[Pair]) -> list[ScoredPair | None]:
        """The scores of the pairs, in order; None for those that are not in the cache."""
        keys = [self._key(pair) for pair in pairs]
        with self._lock:
            found = {key: scored for key in keys if (scored := self._memory.get(key)) is not None}
            missing = [key for key in keys if key not in found]
            on_disk = self._use_disk(lambda disk: disk.read(missing)) if missing else None
            self._memory.update(on_disk or {})
        found |= on_disk or {}
        return [found.get(key) for key in keys]

    def put(self, pairs: Sequence[Pair], scored: Sequence[ScoredPair]) -> None:
        """Keep the scores, one a pair; those that are not finite are left out. The later of two for a pair counts."""
        new = {
            self._key(pair): ScoredPair(float(score), truncated)
            for pair, (score, truncated) in zip(pairs, scored, strict=True)
            if math.isfinite(score)
        }
        with self._lock:
            self._memory.update(new)
            if new:
                self._use_disk(lambda disk: disk.write(new))

    def close(self) -> None:
        """Close the file. It is opened again if the cache is used again; what is in memory stays."""
        with self._lock:
            if self._disk is not None:
                self._disk.close()

    # SQLite must not be forked with its file open: see `_Disk._connect`. So a cache closes its file before a fork, and
    # holds its lock meanwhile. Parent and child open the file again.

    def before_fork(self) -> None:
        """Close the file."""
        self._lock.acquire()
        if self._disk is not None:
            self._disk.close()

    def after_fork(self, *, in_child: bool) -> None:  # noqa: ARG002 - both go on
        """Release the lock; the next call opens the file."""
        self._lock.release()

    def _key(self, pair: Pair) -> bytes:
        # 128 bits of a cryptographic hash: two pairs never share them. The last part needs no length.
        query, document = pair
        key = self._scope.copy()
        key.update(_with_length(query))
        key.update(document.encode(*_ENCODING))
        return key.digest()

    def _use_disk(self, use: Callable[[_Disk], T]) -> T | None:
        """What ``use`` returns; None without a disk. If it fails, scores are in memory only from then on."""
        disk = self._disk
        if disk is None:
            return None
        try:
            return use(disk)
        except (sqlite3.Error, OSError) as error:
            self._disk = None
            disk.close()
            _log.warning(
                "The score cache %s cannot be used (%s: %s). From now on this process keeps scores in memory only. "
                "Check that the folder is writable and the disk not full, delete the file if it is damaged or no score "
                "cache, or name another folder on a local disk; then restart.",
                disk.path,
                type(error).__name__,
                error,
            )
            return None


class _Disk:
    """The file of a cache. Raises sqlite3.Error or OSError where it fails; used by one thread at a time."""

    def __init__(self, path: Path, entries: int, patience: float) -> None:
        self.path = path
        self._entries = entries
        self._patience = patience
        self._connection: sqlite3.Connection | None = None
        self._process = 0

    def read(self, keys: Sequence[bytes]) -> dict[bytes, ScoredPair]:
        """The scores of those keys that are in the file; 999 keys at most, for SQLite before 3.32."""
        places = ", ".join("?" * len(keys))
        statement = f"SELECT key, score, truncated FROM scores WHERE key IN ({places})"  # noqa: S608 - question marks only
        rows = self._connect().execute(statement, keys)
        return {key: ScoredPair(score, None if cut is None else bool(cut)) for key, score, cut in rows}

    def write(self, scores: dict[bytes, ScoredPair]) -> None:
        """Add the scores in one transaction, which also keeps the file bounded."""
        connection = self._connect()
        with connection:
            # The write lock comes first: SQLite waits for it, but never for a reader that would become a writer.
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_WRITE, [(key, score, truncated) for key, (score, truncated) in scores.items()])
            edges = "SELECT (SELECT min(number) FROM scores), (SELECT max(number) FROM scores)"
            first, last = connection.execute(edges).fetchone()
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

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open()
            self._process = os.getpid()
        elif self._process != os.getpid():
            # Forked without Python's hooks (uWSGI can). SQLite takes the parent's locks for this process's own then,
            # and what a new connection writes is lost once the parent closes its connection.
            _leaked.append(self._connection)
            raise OSError("the process was forked while the file was open, and not by os.fork()")
        return self._connection

    def _open(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        give_up_at = time.monotonic() + self._patience
        while True:
            connection = sqlite3.connect(self.path, self._patience, isolation_level=None, check_same_thread=False)
            try:
                connection.execute("PRAGMA journal_mode = WAL")
                connection.execute("PRAGMA synchronous = NORMAL")
                connection.execute(_TABLE)
            except sqlite3.Error as error:
                connection.close()
                # Changing to WAL does not wait for other processes that do the same. Errors that the module raises by
                # itself have no code; the low byte is the code without its refinement.
                busy = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > give_up_at:
                    raise
                time.sleep(0.02)
            else:
                return connection


def _with_length(text: str) -> bytes:
    encoded = text.encode(*_ENCODING)
    return len(encoded).to_bytes(8, "big") + encoded
