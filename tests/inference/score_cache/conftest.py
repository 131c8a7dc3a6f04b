from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from rerank_plugins.inference.score_cache import ScoreCache
from score_cache_processes import Open


@pytest.fixture
def open_cache() -> Iterator[Open]:
    """Makes caches of the scope "model", and closes them in the end."""
    opened: list[ScoreCache] = []

    def open_cache(
        folder: Path | None = None, entries: int = 1000, scope: str = "model", patience: float = 5.0
    ) -> ScoreCache:
        opened.append(ScoreCache(scope, entries, folder, patience=patience))
        return opened[-1]

    yield open_cache
    for cache in opened:
        cache.close()
