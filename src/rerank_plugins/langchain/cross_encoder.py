"""`RerankCrossEncoder`: our scores for whatever takes a LangChain cross-encoder."""

from __future__ import annotations

from collections.abc import Iterable

from langchain_core.cross_encoders import BaseCrossEncoder

from rerank_plugins._internal.fields import MODEL_CONFIG, ModelFields
from rerank_plugins._internal.validation import check_pairs
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair


class RerankCrossEncoder(ModelFields, BaseCrossEncoder):
    """A ``BaseCrossEncoder``, for LangChain's ``CrossEncoderReranker(model=...)`` and its like.

    Scores are the scorer's own: logits, any finite float, of the models that `load_reranker` loads. A ``calibration``
    does not change them. Raises what `Reranker.score` raises, and at the first use what `load_reranker` raises.
    """

    model_config = MODEL_CONFIG

    @property
    def scale(self) -> Scale:
        """What the scores are; `Reranker` asks for it."""
        return "logit" if self.reranker is None else self._reranker().scale

    @property
    def temperature(self) -> float:
        """What a logit is divided by before its sigmoid; `Reranker` asks for it when it has scores."""
        return float(getattr(self._reranker().scorer, "temperature", 1.0))

    def score(self, text_pairs: Iterable[Pair] | Pair) -> list[float]:
        """One finite built-in float a (query, text) pair, in order; no pairs load no model. See `Reranker.score`."""
        return [scored.score for scored in self.score_detailed(text_pairs)]

    def score_detailed(self, text_pairs: Iterable[Pair] | Pair) -> list[ScoredPair]:
        """As `score`, with the truncation of each pair; None where it is not known."""
        self._check_fields()
        pairs = check_pairs(text_pairs)
        return self._reranker().score_detailed(pairs) if pairs else []
