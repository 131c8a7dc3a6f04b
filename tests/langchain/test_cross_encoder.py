"""LangChain's cross-encoders in our `Reranker`, and our scorer as a LangChain cross-encoder."""

from __future__ import annotations

import math
import pickle

import pytest
from langchain_classic.retrievers.document_compressors import CrossEncoderReranker
from langchain_core.cross_encoders import BaseCrossEncoder

from langchain_stand_ins import QUERY, TEXTS, ByLength, Gives, documents
from rerank_plugins import Reranker, ScoringError
from rerank_plugins.langchain import RerankCompressor, RerankCrossEncoder


class Vowels(BaseCrossEncoder):
    """A cross-encoder as LangChain users write them: the share of vowels, in [0, 1]."""

    def score(self, text_pairs: list[tuple[str, str]]) -> list[float]:
        """One probability a pair."""
        return [sum(letter in "aeiou" for letter in text) / len(text) for _, text in text_pairs]


def test_the_stock_reranker_gets_our_order_by_one_argument(box: Reranker) -> None:
    """CrossEncoderReranker(model=RerankCrossEncoder(...)) ranks as RerankCompressor does."""
    stock = CrossEncoderReranker(model=RerankCrossEncoder(model="rerank-mini-en"), top_n=3)
    ours = RerankCompressor(reranker=box, top_n=3)
    assert [document.id for document in stock.compress_documents(documents(), QUERY)] == [
        document.id for document in ours.compress_documents(documents(), QUERY)
    ]


def test_its_scores_are_the_models_logits(box: Reranker) -> None:
    """Score gives built-in floats, those of the scorer, by position or by LangChain's keyword."""
    pairs = [(QUERY, text) for text in TEXTS]
    scores = RerankCrossEncoder(model="rerank-mini-en").score(text_pairs=pairs)
    assert all(type(score) is float for score in scores)
    assert scores == pytest.approx(box.scorer.score(pairs), abs=1e-4)


def test_it_is_a_cross_encoder_both_ways(box: Reranker) -> None:
    """It passes as a BaseCrossEncoder, and in a Reranker it gives the same results again."""
    encoder = RerankCrossEncoder(reranker=box)
    assert isinstance(encoder, BaseCrossEncoder)
    texts = [*TEXTS, "titanium " * 3000]  # the last is truncated, and said to be
    assert Reranker(encoder).rerank(QUERY, texts) == box.rerank(QUERY, texts)
    assert Reranker(RerankCrossEncoder(reranker=ByLength())).rerank(QUERY, TEXTS)[0].truncated is None


def test_nothing_to_score_loads_nothing() -> None:
    """An empty list gives an empty list, with a model that does not exist."""
    assert RerankCrossEncoder(model="no/such-model").score([]) == []


def test_its_scale_is_that_of_its_reranker() -> None:
    """Probabilities stay probabilities in another Reranker."""
    encoder = RerankCrossEncoder(reranker=Reranker(Vowels(), scale="probability"))
    assert Reranker(encoder).scale == "probability"
    assert Reranker(RerankCrossEncoder(reranker=ByLength())).scale == "logit"


@pytest.mark.parametrize("scores", [(1.0,), (1.0, math.nan, 1.0)])
def test_scores_that_would_lose_documents_raise(scores: tuple[float, ...]) -> None:
    """Too few scores and NaN, which the stock reranker passes over, are errors."""
    stock = CrossEncoderReranker(model=RerankCrossEncoder(reranker=Gives(*scores)))
    with pytest.raises(ScoringError):
        stock.compress_documents(documents(), QUERY)


def test_any_langchain_cross_encoder_serves_a_compressor() -> None:
    """A BaseCrossEncoder of somebody's own is taken as it is, and its scores are kept."""
    compressor = RerankCompressor(reranker=Reranker(Vowels(), scale="probability"), top_n=1)
    (best,) = compressor.compress_documents(documents(), QUERY)
    scores = Vowels().score([(QUERY, text) for text in TEXTS])
    assert best.metadata["relevance_score"] == max(scores)
    assert best.page_content == TEXTS[scores.index(max(scores))]


def test_its_pickle_holds_no_weights() -> None:
    """It travels to another process in less than 2 kB."""
    encoder = RerankCrossEncoder(model="rerank-mini-en")
    encoder.score([(QUERY, "text")])
    data = pickle.dumps(encoder)
    assert len(data) < 2000
    assert pickle.loads(data) == encoder  # noqa: S301 - our own
