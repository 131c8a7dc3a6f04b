"""Other processes that use a cache of scores, and short ways to fill and read one."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from rerank_plugins import Pair, ScoredPair
from rerank_plugins.inference.score_cache import ScoreCache

Open = Callable[..., ScoreCache]

SCORED = ScoredPair(0.1 + 0.2, truncated=True)
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
PREAMBLE = """
import os, signal, sys
from pathlib import Path
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers import ScoredPair

folder, name = Path(sys.argv[1]), sys.argv[2]
cache = ScoreCache("model", 10_000, folder)
"""


def start(program: str, folder: Path, name: str = "") -> subprocess.Popen[str]:
    """Another process, with a cache of the scope "model" in the folder."""
    code = PREAMBLE + textwrap.dedent(program)
    pipe = subprocess.PIPE
    return subprocess.Popen([sys.executable, "-c", code, str(folder), name], stdout=pipe, stderr=pipe, text=True)


def run(program: str, folder: Path) -> str:
    """What another process says; it has to end well."""
    with start(program, folder) as process:
        said, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    return said.strip()


def of(*documents: str) -> list[Pair]:
    return [("q", document) for document in documents]


def keep(cache: ScoreCache, scores: Mapping[Pair, float]) -> None:
    cache.put(list(scores), [ScoredPair(score, truncated=None) for score in scores.values()])


def known(cache: ScoreCache, pairs: list[Pair]) -> list[float | None]:
    return [None if found is None else found.score for found in cache.get(pairs)]
