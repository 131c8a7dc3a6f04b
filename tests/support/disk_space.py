"""A disk with little free space."""

from __future__ import annotations

import shutil
from typing import NamedTuple

import pytest


class _Usage(NamedTuple):
    total: int
    used: int
    free: int


def set_free_bytes(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    """Let `shutil.disk_usage` report so many free bytes."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: _Usage(10**9, 10**9 - free, free))
