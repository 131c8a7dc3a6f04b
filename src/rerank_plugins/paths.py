"""Paths as people give them: ``~`` stands for the home folder, also where no shell has replaced it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
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


@contextmanager
def some_home() -> Iterator[bool]:
    """``HOME`` is set for the time of an import, where this user has no home folder; gives whether that was needed.

    Containers that are run by any number have such users, and OpenVINO and nncf ask for the folder when they are
    imported, and fail.
    """
    try:
        Path.home()
    except RuntimeError:
        os.environ["HOME"] = os.devnull  # no folder: OpenVINO's telemetry takes that for a refusal, and writes nothing
        try:
            yield True
        finally:
            del os.environ["HOME"]
    else:
        yield False
