"""Where what is made from a model folder's weights is kept: beside them, or in a cache of our own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError

CACHE_VARIABLE = "RERANK_PLUGINS_CACHE"


def cache_root() -> Path:
    """The folder that ``RERANK_PLUGINS_CACHE`` names, else ``rerank-plugins`` in the user's cache folder.

    A user without a home folder, as containers have that are run by any number, or with one that cannot be used, gets a
    folder among the temporary ones.

    Raises:
        InvalidInputError: That temporary folder is another user's, or the variable begins with nobody's ``~``.
    """
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return expand(given)
    usual = None
    with contextlib.suppress(InvalidInputError):
        usual = expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rerank-plugins"
    if usual is not None and _is_usable(usual):
        return usual
    # Without any of the three nothing can be kept, which is said where that matters.
    return _temporary_root() or usual or Path(os.sep) / "rerank-plugins"


def _is_usable(root: Path) -> bool:
    """Whether ``root`` is there, if only to be read, or can be made."""
    if os.access(root, os.F_OK):
        return os.access(root, os.R_OK | os.X_OK)
    there = next((folder for folder in root.parents if os.access(folder, os.F_OK)), None)
    return there is not None and os.access(there, os.W_OK | os.X_OK)


def _temporary_root() -> Path | None:
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        root = Path(tempfile.gettempdir()) / ("rerank-plugins" if user is None else f"rerank-plugins-{user}")
        root.mkdir(mode=0o700, exist_ok=True)
        owner = root.lstat().st_uid
    except OSError:
        return None
    # Others may write among temporary files, and what they put there must not be loaded.
    if user is not None and (owner != user or root.is_symlink()):
        raise InvalidInputError(
            f"This user has no home folder to keep files in, and {root} is another user's. "
            f"Set {CACHE_VARIABLE} to a folder of your own."
        )
    return root


def conversion_place(folder: Path) -> Path:
    """The folder under whose ``openvino/`` a conversion of ``folder`` is kept.

    Beside the weights in a folder of the user's own. In the cache for what lies in a Hugging Face cache,
    which is that library's to fill and to empty, and for what cannot be written to.
    """
    snapshot = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    if not snapshot and os.access(folder, os.W_OK):
        return folder
    name = f"{folder.parent.parent.name}--{folder.name}" if snapshot else f"{folder.name}-{_digest(folder)}"
    return cache_root() / "converted" / name


def lock_path(place: Path) -> Path:
    """The file that the one process holds which converts for ``place``."""
    return cache_root() / "locks" / f"{_digest(place)}.lock"


def clear_scratch(folder: Path, prefix: str) -> None:
    """Remove what killed processes left in ``folder``.

    What is younger than a day may be another machine's that is at work on the same disk: locks do not reach it.
    """
    yesterday = time.time() - 24 * 3600
    for left in folder.glob(f"{prefix}*"):
        with contextlib.suppress(FileNotFoundError):
            if left.stat().st_mtime < yesterday:
                shutil.rmtree(left, ignore_errors=True)


def _digest(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
