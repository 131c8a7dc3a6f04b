"""Paths as people give them: ``~`` stands for the home folder, also where no shell has replaced it."""

from __future__ import annotations

from pathlib import Path

from rerank_plugins.errors import InvalidInputError


def expand(path: str | Path) -> Path:
    """``path`` with its leading ``~`` or ``~user`` replaced.

    Raises:
        InvalidInputError: Nobody knows that home folder: there is no ``HOME`` here, or no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as exc:
        raise InvalidInputError(
            f"{path} begins with a home folder, and this machine knows none for that user. Give the path in full, or "
            f"set HOME."
        ) from exc
