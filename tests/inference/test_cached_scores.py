from __future__ import annotations

from pathlib import Path

import pytest

from rerank_plugins import InvalidInputError, load_reranker

QUERY = "What is the frame of the phone made of?"
TEXTS = [f"{number} {text}" for number in range(20) for text in ("Apples are healthy.", "A phone of titanium.")]


def test_a_pair_that_comes_again_is_not_computed() -> None:
    """The second call gets the same scores without a batch, and the hit rate says so."""
    with load_reranker("rerank-mini-en", score_cache=1000) as reranker:
        first, tokens = reranker.rerank(QUERY, TEXTS), reranker.stats().tokens
        assert reranker.rerank(QUERY, TEXTS) == first
        again = reranker.rerank(QUERY, ["a new one", *reversed(TEXTS)])
        assert {(r.document, r.score) for r in first} < {(r.document, r.score) for r in again}
        stats = reranker.stats()
    assert (stats.cache_hits, stats.cache_misses, stats.pairs) == (80, 41, 121)
    assert stats.cache_hit_rate == 80 / 121
    assert tokens < stats.tokens < tokens * 1.1


def test_no_cache_unless_asked_for() -> None:
    """By default every pair is computed."""
    with load_reranker("rerank-mini-en") as reranker:
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
