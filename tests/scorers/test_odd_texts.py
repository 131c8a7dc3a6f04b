"""Texts of any content and length, through a real tokenizer and engine."""

from __future__ import annotations

import math

import pytest

from rerank_plugins import Reranker
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer

QUERY = "how do plants make food"


ODD_TEXTS = [
    "a lone \udfff surrogate",
    "nul\0 bytes\0",
    "من كتب هذا الكتاب؟",
    "\u202eright to left\u202c",
    "👩‍👩‍👧‍👦 🇩🇪 🙂🏽",
    "\ufeff\u200bzero\u2060width",
    "\ud83d\ude00",
    "a" + "\u0301" * 500,
    "word" * 5000,
    "<script>&amp;\\n%s{}</script>",
]


@pytest.fixture(scope="module")
def reranker(bert_openvino: CrossEncoderScorer) -> Reranker:
    """A reranker over a real, tiny model."""
    return Reranker(bert_openvino)


@pytest.mark.parametrize("text", ODD_TEXTS)
def test_odd_texts_are_scored(reranker: Reranker, text: str) -> None:
    """Surrogates, NUL, right-to-left, emoji, as query and as document: finite scores, the text as it was."""
    results = reranker.rerank(text, [text, "plain"])
    assert {result.document for result in results} == {text, "plain"}
    assert all(0 < result.score < 1 for result in results)


def test_an_odd_text_does_not_change_its_neighbours(reranker: Reranker) -> None:
    """A document's score is the same whatever stands beside it."""
    alone = reranker.rerank(QUERY, ["bread is baked from flour"])[0].score
    among = reranker.rerank(QUERY, [*ODD_TEXTS, "bread is baked from flour"])
    (score,) = (result.score for result in among if result.index == len(ODD_TEXTS))
    assert score == pytest.approx(alone, abs=1e-4)


@pytest.mark.parametrize("unit", ["how plants make food ", "植物如何制造食物", "a"])
def test_a_document_of_a_megabyte_is_scored(reranker: Reranker, unit: str) -> None:
    """A document of a million bytes is cut and scored."""
    document = unit * (1_000_000 // len(unit.encode()))
    (result,) = reranker.rerank(QUERY, [document])
    assert math.isfinite(result.score)
    assert result.truncated or unit == "a"  # to BERT a word of any length is one unknown token


def test_ten_thousand_documents_are_ranked(reranker: Reranker) -> None:
    """10,000 documents come back, each once, in falling order."""
    documents = [f"plants {number} food" for number in range(10_000)]
    results = reranker.rerank(QUERY, documents)
    assert sorted(result.index for result in results) == list(range(10_000))
    assert all(result.document == documents[result.index] for result in results)
    scores = [result.score for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len(set(scores)) > 1000
