"""Published scores of BAAI/bge-reranker-v2-m3, for machines that have its weights (marker `hub`)."""

from __future__ import annotations

import pytest

from rerank_plugins import Reranker, load_reranker

pytestmark = pytest.mark.hub

AI = "What event in 1956 marked the official birth of artificial intelligence as a discipline?"
# Sigmoids in fp32 on a CPU, as published by users of the model.
AI_SCORES = {
    "In 1950, Alan Turing published his seminal paper, 'Computing Machinery and Intelligence,' proposing the Turing "
    "Test as a criterion of intelligence, a foundational concept in the philosophy and development of artificial "
    "intelligence.": 0.0326971950177779,
    "The Dartmouth Conference in 1956 is considered the birthplace of artificial intelligence as a field; here, John "
    "McCarthy and others coined the term 'artificial intelligence' and laid out its basic goals.": 0.9911615761470803,
    "In 1951, British mathematician and computer scientist Alan Turing also developed the first program designed to "
    "play chess, demonstrating an early example of AI in game strategy.": 0.0042116724917325935,
    "The invention of the Logic Theorist by Allen Newell, Herbert A. Simon, and Cliff Shaw in 1955 marked the creation "
    "of the first true AI program, which was capable of solving logic problems, akin to proving mathematical "
    "theorems.": 0.006514905766152258,
}
PANDA = (
    "The giant panda (Ailuropoda melanoleuca), sometimes called a panda bear or simply panda, is a bear species "
    "endemic to China."
)


@pytest.fixture(scope="module")
def exact() -> Reranker:
    return load_reranker("BAAI/bge-reranker-v2-m3", engine="openvino", precision="fp32")


def test_sigmoids_equal_the_published_ones_in_fp32(exact: Reranker) -> None:
    """Four passages of one query score what is published for fp32, within 1e-3."""
    scores = {result.document: result.score for result in exact.rerank(AI, list(AI_SCORES))}
    assert scores == pytest.approx(AI_SCORES, abs=1e-3)


def test_logits_are_near_the_published_fp16_ones(exact: Reranker) -> None:
    """Three pairs have the logits published for fp16, within 0.05: fp16 itself moves by 0.02."""
    pairs = [("query", "passage"), ("what is panda?", "hi"), ("what is panda?", PANDA)]
    assert exact.scorer.score(pairs) == pytest.approx([-5.65234375, -8.1875, 5.26171875], abs=0.05)
