"""Where what is made from a model folder's weights is kept: beside them, or in a cache of our own."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
from pathlib import Path

CACHE_VARIABLE = "RERANK_PLUGINS_CACHE"


def cache_root() -> Path:
    """The folder that ``RERANK_PLUGINS_CACHE`` names, else ``rerank-plugins`` in the user's cache folder."""
    given = os.environ.get(CACHE_VARIABLE)
    if given:
        return Path(given).expanduser()
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "rerank-plugins"


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
