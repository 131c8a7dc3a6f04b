"""The same text several times in one call."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from rerank_plugins import DeadlineExceededError, Reranker, ScoringError
from rerank_plugins.backends.base import Logits, Tokens
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.testing import SlowEngine, ToyEngine, toy_reranker
from scorers import CutsLong, Gives, Remembers
from stand_in_models import PASSAGES, QUERIES

TEXTS = ["b", "aaa", "b", "cc", "aaa", "b"]


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_equal_documents_have_equal_scores_and_keep_their_order(
    load_scorer: Callable[[Path, str], CrossEncoderScorer], bert_folder: Path, engine: str
) -> None:
    """On a real model, whatever else is in the call: bit for bit, and equal ones come as they were given."""
    reranker = Reranker(load_scorer(bert_folder, engine))
    lengths = [1, 7, 2, 40, 3, 25, 4, 12, 5, 33]
    texts = [text for length in lengths for text in (PASSAGES[0], " ".join([PASSAGES[2]] * length)[: 9 * length])] * 8
    results = reranker.rerank(QUERIES[0], texts)
    assert sorted(one.index for one in results) == list(range(len(texts)))
    for text in set(texts):
        same = [one for one in results if one.document == text]
        assert len({one.score for one in same}) == 1
        assert [one.index for one in same] == sorted(one.index for one in same)


class RoundsByShape(ToyEngine):
    """Its logits depend on the shape of the batch, a millionth part of them, as those of real engines do."""

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        found = super().logits(input_ids, attention_mask, token_type_ids)
        return found * np.float32(1 + 1e-6 * (len(input_ids) - 1))


def test_rounding_does_not_tell_equal_documents_apart() -> None:
    """Also where they would be in batches of different shapes: each pair is scored once in a call."""
    reranker = toy_reranker(RoundsByShape(), token_budget=20)
    results = reranker.rerank("q", TEXTS)
    assert {text: len({one.score for one in results if one.document == text}) for text in TEXTS} == dict.fromkeys(
        TEXTS, 1
    )
    assert [one.index for one in results if one.document == "b"] == [0, 2, 5]
    stats = reranker.stats()
    assert (stats.rows, stats.pairs) == (3, 6)


def test_a_scorer_of_ones_own_is_asked_once_for_equal_pairs() -> None:
    """It gets the pairs that differ, in order; each document gets its score."""
    scorer = Remembers()
    results = Reranker(scorer).rerank("q", TEXTS)
    assert scorer.passages == ["b", "aaa", "cc"]
    assert [(one.index, one.document) for one in results] == [
        (1, "aaa"),
        (4, "aaa"),
        (3, "cc"),
        (0, "b"),
        (2, "b"),
        (5, "b"),
    ]


async def test_the_async_call_gives_the_same() -> None:
    """Arerank scores equal pairs once as well."""
    reranker = toy_reranker()
    assert await reranker.arerank("q", TEXTS) == reranker.rerank("q", TEXTS)
    assert reranker.stats().rows == 6


def test_score_gives_one_number_a_pair() -> None:
    """As many as pairs were given, in their order."""
    scorer = Remembers()
    scores = Reranker(scorer).score([("q", text) for text in TEXTS] + [("other", "b")])
    assert scores == [0.01, 0.03, 0.01, 0.02, 0.03, 0.01, 0.01]
    assert scorer.passages == ["b", "aaa", "cc", "b"]


def test_all_of_equal_documents_are_called_truncated() -> None:
    """What the model did not read to the end of one it did not read of the other."""
    reranker = Reranker(CutsLong())
    results = reranker.rerank("q", ["x" * 50, "short", "x" * 50])
    assert [(one.index, one.truncated) for one in results] == [(0, True), (2, True), (1, False)]
    assert reranker.stats().truncated == 2


def test_wrong_scores_name_every_document_that_has_one() -> None:
    """The positions are those of the documents, not of the pairs that differ."""
    with pytest.raises(ScoringError, match="for documents 1, 4 "):
        Reranker(Gives(1.0, math.nan, 2.0)).rerank("q", TEXTS)


def test_at_a_deadline_equal_documents_are_scored_or_not_together() -> None:
    """A text that has a score has it wherever it stands, and what has none keeps its order."""
    reranker = toy_reranker(SlowEngine(seconds=0, seconds_a_row=0.02))
    texts = [f"text {number % 40:02}" for number in range(80)]
    results = reranker.rerank("q", texts, deadline=0.3)
    scored = {one.document for one in results if one.score is not None}
    assert 0 < len(scored) < 40
    assert sum(one.document in scored for one in results) == 2 * len(scored)
    unscored = [one.index for one in results if one.score is None]
    assert unscored == [position for position, text in enumerate(texts) if text not in scored]


def test_a_deadline_of_a_scorer_of_ones_own_counts_documents() -> None:
    """The error says how many of the documents had a score, each of equal ones counted."""

    class Late(Gives):
        def score(self, pairs: list[tuple[str, str]], /) -> list[float]:
            import time

            time.sleep(0.2)
            return [1.0] * len(pairs)

    texts = [f"text {number % 20}" for number in range(40)]
    with pytest.raises(DeadlineExceededError, match="32 of 40 documents had a score"):
        Reranker(Late()).rerank("q", texts, deadline=0.1, on_deadline="raise")


def test_sentences_that_several_documents_share_are_scored_once() -> None:
    """Each document has its own highlight of them."""
    scorer = Remembers()
    texts = ["All rights are reserved. The frame of it is titanium.", "The frame of it is titanium. Short and good."]
    results = Reranker(scorer).rerank("q", texts, highlight=True)
    found = {one.index: one.document[one.highlight.start : one.highlight.end] for one in results if one.highlight}
    assert found == dict.fromkeys([0, 1], "The frame of it is titanium.")
    assert scorer.passages[2:] == ["All rights are reserved.", "The frame of it is titanium.", "Short and good."]
