from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rerank_plugins import InvalidInputError, Pair, Reranker, ScoredPair, load_reranker
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import SlowEngine, ToyEngine, toy_reranker

QUERY = "What is the frame of the phone made of?"
TEXTS = [f"{number} {text}" for number in range(20) for text in ("Apples are healthy.", "A phone of titanium.")]


def cached(cache: ScoreCache | None) -> Reranker:
    """A toy reranker with a cache."""
    encoder = toy_reranker().scorer.encoder  # type: ignore[attr-defined]
    return Reranker(CrossEncoderScorer(encoder, ToyEngine(), cache=cache))


def test_a_pair_that_comes_again_is_not_computed() -> None:
    """The second call gets the same scores without a batch, and the hit rate says so."""
    with cached(ScoreCache("toy", 1000)) as reranker:
        first, tokens = reranker.rerank(QUERY, TEXTS), reranker.stats().tokens
        assert reranker.rerank(QUERY, TEXTS) == first
        again = reranker.rerank(QUERY, ["a new one", *reversed(TEXTS)])
        assert {(r.document, r.score) for r in first} < {(r.document, r.score) for r in again}
        stats = reranker.stats()
    assert (stats.cache_hits, stats.cache_misses, stats.pairs) == (80, 41, 121)
    assert stats.cache_hit_rate == 80 / 121
    assert tokens < stats.tokens < tokens * 1.1


def test_without_a_cache_every_pair_is_computed() -> None:
    """Tokens grow with every call."""
    with cached(None) as reranker:
        reranker.rerank(QUERY, TEXTS)
        tokens = reranker.stats().tokens
        reranker.rerank(QUERY, TEXTS)
        assert (reranker.stats().tokens, reranker.stats().cache_misses) == (2 * tokens, 0)


def test_scores_on_disk_serve_the_next_start(tmp_path: Path) -> None:
    """A reranker loaded later has the scores of the one before, truncation included; other settings share nothing."""
    options = {"score_cache": 1000, "score_cache_folder": tmp_path}
    texts = [*TEXTS, "long " * 600]
    with load_reranker("rerank-mini-en", **options) as reranker:  # type: ignore[arg-type]
        first = reranker.rerank(QUERY, texts)
    with load_reranker("rerank-mini-en", **options) as reranker:  # type: ignore[arg-type]
        assert reranker.rerank(QUERY, texts) == first
        assert (reranker.stats().cache_hits, reranker.stats().batches) == (41, 0)
    with load_reranker("rerank-mini-en", max_length=64, **options) as reranker:  # type: ignore[arg-type]
        reranker.rerank(QUERY, texts)
        assert reranker.stats().cache_hits == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"score_cache": -1}, "score_cache must be a whole number of at least 0"),
        ({"score_cache": True}, "score_cache must be a whole number of at least 0"),
        ({"score_cache_folder": "here"}, "score_cache_folder='here' needs score_cache"),
        ({"max_queued_pairs": 0}, "max_queued_pairs must be a whole number of at least 1"),
    ],
)
def test_wrong_settings_are_refused(options: dict[str, object], message: str) -> None:
    """A number that cannot be, or a folder without a number, is an error when it is given."""
    with pytest.raises(InvalidInputError, match=message):
        load_reranker("rerank-mini-en", **options)  # type: ignore[arg-type]


class Counting(ScoreCache):
    """Remembers how many pairs it was asked for at a time."""

    def __init__(self, folder: Path) -> None:
        super().__init__("toy", 5000, folder)
        self.asked: list[int] = []

    def get(self, pairs: Sequence[Pair]) -> list[ScoredPair | None]:
        """As `ScoreCache.get`."""
        self.asked.append(len(pairs))
        return super().get(pairs)


def test_known_scores_are_given_at_any_deadline(tmp_path: Path) -> None:
    """3,000 documents whose scores are on disk are looked up in large batches, in a process that never computed."""
    texts, encoder = [f"text {number}" for number in range(3000)], toy_reranker().scorer.encoder  # type: ignore[attr-defined]

    def reranker(engine: Any, cache: ScoreCache) -> Reranker:
        return Reranker(CrossEncoderScorer(encoder, engine, cache=cache))

    with reranker(ToyEngine(), ScoreCache("toy", 5000, tmp_path)) as first:
        whole = first.rerank("q", texts)
    cache = Counting(tmp_path)
    with reranker(SlowEngine(seconds=60), cache) as second:
        assert second.rerank("q", texts, deadline=20) == whole
    assert (sum(cache.asked), len(cache.asked)) == (3000, 6)
