"""Fixtures of the tests of remote scorers."""

from __future__ import annotations

import pytest

from rerank_plugins.scorers.remote import client


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries follow each other quickly where the server says nothing else."""
    monkeypatch.setattr(client, "_FIRST_WAIT", 0.001)
