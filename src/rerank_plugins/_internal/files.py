"""Files on disk: home folders, locks between processes, scratch folders, atomic writes, free space."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from rerank_plugins.errors import InvalidInputError

# Imported in the functions that need them, so that `import rerank_plugins` stays quick: filelock, shutil, tempfile.


_ONE_DAY = 24 * 3600


def expand(path: str | Path) -> Path:
    """``path`` with its leading ``~`` or ``~user`` replaced.

    `InvalidInputError` if it is blank, or if that home folder is not known.
    """
    if not str(path).strip():
        raise InvalidInputError(f"A path is blank, got {path!r}. Give a file or a folder, or leave the option out.")
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise InvalidInputError(
            f"{path} begins with a home folder, and this machine knows none for that user. Give the path in full, or "
            f"set HOME."
        ) from exc


def acquire_lock(path: Path, on_busy: Callable[[], object]) -> AbstractContextManager[Any]:
    """Lock the file ``path`` against other threads and processes until the ``with`` block ends.

    ``on_busy`` is called before waiting, if somebody else holds the lock; it may raise instead. `OSError` if the file
    cannot be created or locked.
    """
    from filelock import FileLock, Timeout

    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        return lock.acquire(timeout=0)
    except Timeout:
        on_busy()
    return lock.acquire()


def make_scratch_folder(parent: Path, prefix: str) -> AbstractContextManager[str]:
    """Create a folder in ``parent`` that is removed when the ``with`` block ends.

    Scratch folders of killed processes are removed first. One that is younger than a day is left alone: it may belong
    to another machine that works on the same disk, where our locks do not reach. `OSError` if ``parent`` cannot be
    created or written to.
    """
    import shutil
    import tempfile

    parent.mkdir(parents=True, exist_ok=True)
    for folder in parent.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            if folder.stat().st_mtime < time.time() - _ONE_DAY:
                shutil.rmtree(folder, ignore_errors=True)
    return _remove_at_end(tempfile.mkdtemp(prefix=prefix, dir=parent))


# Not a TemporaryDirectory: that one is removed when an interpreter ends, also by a forked child of its maker.
@contextlib.contextmanager
def _remove_at_end(folder: str) -> Iterator[str]:
    import shutil

    maker = os.getpid()
    try:
        yield folder
    finally:
        if os.getpid() == maker:
            shutil.rmtree(folder, ignore_errors=True)


def write_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` in one step: readers see the old file or the new one, never a part."""
    scratch = path.parent / f".{os.urandom(8).hex()}"  # short: a name that just fits must be writable
    try:
        scratch.write_text(text, encoding="utf-8")
        scratch.replace(path)
    finally:
        with contextlib.suppress(OSError):
            scratch.unlink(missing_ok=True)


def free_bytes(folder: Path) -> int:
    """Free space in ``folder``, or in its nearest parent that exists."""
    import shutil

    return shutil.disk_usage(next(place for place in (folder, *folder.parents) if place.exists())).free


def check_output_file(path: Path, option: str) -> None:
    """Raise `InvalidInputError` if ``path``, given as ``option``, is a folder or is not in a writable one."""
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InvalidInputError(
            f"{path} cannot be written. Name a file in a folder that exists and can be written to, with {option}."
        )
