"""Where conversions, compiled models and locks are kept: beside the weights, or in this package's cache."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path

from rerank_plugins._internal.files import expand
from rerank_plugins.errors import InvalidInputError


def cache_root() -> Path:
    """The folder that ``RERANK_PLUGINS_CACHE`` names, else ``rerank-plugins`` in the user's cache folder.

    A folder in the system's temporary folder stands in for it if the user has no home folder (as in containers that run
    under an arbitrary user id) or one that cannot be used; `InvalidInputError` if that folder is another user's.
    """
    given = os.environ.get("RERANK_PLUGINS_CACHE")
    if given:
        return expand(given)
    usual = None
    with contextlib.suppress(InvalidInputError):
        usual = expand(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "rerank-plugins"
    if usual is not None and _is_usable(usual):
        return usual
    # Without any of the three nothing can be cached. Whoever tries to write says so.
    return _temporary_root() or usual or Path(os.sep) / "rerank-plugins"


def _is_usable(root: Path) -> bool:
    """Whether ``root`` can be read, or created if it does not exist."""
    if os.access(root, os.F_OK):
        return os.access(root, os.R_OK | os.X_OK)
    existing = next((folder for folder in root.parents if os.access(folder, os.F_OK)), None)
    return existing is not None and os.access(existing, os.W_OK | os.X_OK)


def _temporary_root() -> Path | None:
    user = os.getuid() if hasattr(os, "getuid") else None
    try:
        root = Path(tempfile.gettempdir()) / ("rerank-plugins" if user is None else f"rerank-plugins-{user}")
        root.mkdir(mode=0o700, exist_ok=True)
        owner = root.lstat().st_uid
    except OSError:
        return None
    # Other users can write to the temporary folder, and what they put there must not be loaded.
    if user is not None and (owner != user or root.is_symlink()):
        raise InvalidInputError(
            f"This user has no home folder to keep files in, and {root} is another user's. "
            f"Set RERANK_PLUGINS_CACHE to a folder of your own."
        )
    return root


def conversion_folder(folder: Path) -> Path:
    """The folder under whose ``openvino/`` a conversion of ``folder`` is kept.

    This is ``folder`` itself if the user can write to it. It is a folder of our cache for a read-only folder, and for a
    snapshot in a Hugging Face cache, which is that library's to fill and to empty.
    """
    snapshot = folder.parent.name == "snapshots" and folder.parent.parent.name.startswith("models--")
    if not snapshot and os.access(folder, os.W_OK):
        return folder
    name = f"{folder.parent.parent.name}--{folder.name}" if snapshot else f"{folder.name}-{_hash_path(folder)}"
    return cache_root() / "converted" / name


def lock_path(place: Path) -> Path:
    """The lock file of the process that writes to ``place``."""
    return cache_root() / "locks" / f"{_hash_path(place)}.lock"


def _hash_path(path: Path) -> str:
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
