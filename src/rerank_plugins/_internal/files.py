"""Paths as people give them: ``~`` expanded, and places for output checked before the work."""

from __future__ import annotations

import os
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


def check_output_file(path: Path, option: str) -> None:
    """Raise `InvalidInputError` if ``path``, given as ``option``, is a folder or is not in a writable one."""
    if path.is_dir() or not os.access(path.absolute().parent, os.W_OK):
        raise InvalidInputError(
            f"{path} cannot be written. Name a file in a folder that exists and can be written to, with {option}."
        )
