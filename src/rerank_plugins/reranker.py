"""`Reranker`: a query and documents in, the same documents out, best first."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from rerank_plugins.errors import InvalidInputError, ScoringError
from rerank_plugins.ranking import RankedResult, check_score_threshold, check_top_n, rank, sigmoid
from rerank_plugins.scorer import DetailedScorer, Pair, Scale, ScoredPair, Scorer
from rerank_plugins.threads import on_thread


class Reranker:
    """Reranks documents with any scorer. Safe to share between threads if its scorer is."""

    def __init__(self, scorer: Scorer, *, scale: Scale | None = None) -> None:
        """Hold a scorer.

        Args:
            scorer: Any object with ``score(pairs) -> list[float]``, LangChain cross-encoders included.
            scale: What its numbers are: ``"logit"`` (a sigmoid is applied) or ``"probability"``
                (used as they are). None takes ``scorer.scale``, or ``"logit"`` where it has none.
        """
        if isinstance(scorer, type):
            raise InvalidInputError(f"scorer must be an object, got the class {scorer.__name__}: make one of it.")
        if not callable(getattr(scorer, "score", None)):
            raise InvalidInputError(
                f"scorer must have a method score(pairs) -> list[float], got {type(scorer).__name__}. "
                f"For a model's name use load_reranker(name)."
            )
        chosen = scale or getattr(scorer, "scale", None) or "logit"
        if chosen not in ("logit", "probability"):
            raise InvalidInputError(f"scale must be 'logit' or 'probability', got {chosen!r}.")
        self.scorer = scorer
        self.scale: Scale = chosen

    def __deepcopy__(self, memo: dict[int, object]) -> Reranker:
        """Itself: a reranker never changes, and its model is not to be copied."""
        return self

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[RankedResult]:
        """Order documents by relevance to the query.

        Args:
            query: Not blank.
            documents: Any iterable of strings; it is read once and never changed.
            top_n: How many to return; None returns all, 0 none.
            score_threshold: In [0, 1]; only scores at or above it are returned, at most ``top_n``.

        Returns:
            Results with scores in [0, 1], best first; equal scores keep their input order. A blank
            document has nothing to match: it gets 0.0, without the model, and comes last.

        Raises:
            InvalidInputError: A blank query, a string for documents, a document that is no string,
                a wrong ``top_n`` or ``score_threshold``.
            ScoringError: The scorer gave a wrong number of scores, or one that is not finite.
        """
        check_top_n(top_n)
        check_score_threshold(score_threshold)
        check_query(query)
        texts = _checked_documents(documents)
        if top_n == 0:
            return []
        filled = [position for position, text in enumerate(texts) if text.strip()]
        blank = [position for position, text in enumerate(texts) if not text.strip()]
        scored = self._score([(query, texts[position]) for position in filled], filled)
        raw = [one.score for one in scored] + [-math.inf] * len(blank)
        scores = [sigmoid(one.score) if self.scale == "logit" else one.score for one in scored] + [0.0] * len(blank)
        truncated = [one.truncated for one in scored] + [False] * len(blank)
        # Blank documents stand behind the others, so that even at equal scores they come last. Sorted by
        # the scorer's numbers: logits differ where their sigmoids are both 1.0.
        positions = filled + blank
        order = rank(scores, top_n=top_n, score_threshold=score_threshold, order_by=raw)
        return [RankedResult(positions[i], scores[i], texts[positions[i]], truncated[i]) for i in order]

    def score(self, pairs: Iterable[Pair], /) -> list[float]:
        """The scorer's own numbers, on ``scale``, checked: one finite number a pair, in order.

        Raises:
            ScoringError: The scorer gave something else.
        """
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: Iterable[Pair], /) -> list[ScoredPair]:
        """As `score`, with the truncation of each pair, None where the scorer cannot tell."""
        given = list(pairs)
        return self._score(given, range(len(given)))

    async def arerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
    ) -> list[RankedResult]:
        """`rerank` on a worker thread, so that the event loop stays free."""
        texts = _checked_documents(documents)
        return await on_thread(self.rerank, query, texts, top_n=top_n, score_threshold=score_threshold)

    def _score(self, pairs: list[Pair], positions: Sequence[int]) -> list[ScoredPair]:
        if not pairs:
            return []
        scorer = self.scorer
        # A copy: what a scorer does to its argument must not change what is ranked.
        given: Any
        read: Callable[[Any], ScoredPair]
        try:
            if isinstance(scorer, DetailedScorer):
                given, read = scorer.score_detailed(list(pairs)), _detailed
            else:
                given, read = scorer.score(list(pairs)), _plain
        except StopIteration as exc:
            # It would end a caller's loop as if all had gone well.
            raise RuntimeError(f"{type(scorer).__name__} raised StopIteration: {exc}") from exc
        try:
            scored = [read(one) for one in given]
        except (TypeError, ValueError, AttributeError) as exc:
            raise ScoringError(
                f"{type(scorer).__name__} gave no list of numbers for {len(pairs)} pairs "
                f"({type(exc).__name__}: {exc}), expected one number a pair. Nothing was ranked."
            ) from exc
        if len(scored) != len(pairs):
            raise ScoringError(
                f"{type(scorer).__name__} gave {len(scored)} scores for {len(pairs)} pairs, "
                f"expected one a pair. Nothing was ranked."
            )
        self._check_scores([one.score for one in scored], positions)
        return scored

    def _check_scores(self, raw: list[float], positions: Sequence[int]) -> None:
        bad = [p for p, score in zip(positions, raw, strict=True) if not math.isfinite(score)]
        if bad:
            raise ScoringError(
                f"{type(self.scorer).__name__} gave NaN or infinite scores for documents {_listed(bad)} "
                f"(counted from 0), expected finite numbers. Nothing was ranked; "
                f"where a model computes in fp16, try precision='bf16' or 'fp32'."
            )
        if self.scale == "probability":
            off = [p for p, score in zip(positions, raw, strict=True) if not 0.0 <= score <= 1.0]
            if off:
                raise ScoringError(
                    f"{type(self.scorer).__name__} says its scores are probabilities, but those of documents "
                    f"{_listed(off)} (counted from 0) lie outside [0, 1]. "
                    f"If they are logits, use Reranker(scorer, scale='logit')."
                )


def _plain(score: Any) -> ScoredPair:
    return ScoredPair(float(score), None)


def _detailed(scored: Any) -> ScoredPair:
    return ScoredPair(float(scored.score), None if scored.truncated is None else bool(scored.truncated))


def check_query(query: str) -> None:
    """Raise `InvalidInputError` unless ``query`` is a string that says something."""
    if not isinstance(query, str):
        raise InvalidInputError(f"query must be a string, got {type(query).__name__}.")
    if not query.strip():
        raise InvalidInputError("query is blank. Documents can only be ranked for a question: give its text.")


def _checked_documents(documents: Iterable[str]) -> list[str]:
    if isinstance(documents, str | bytes):
        raise InvalidInputError(
            f"documents must be an iterable of strings, got one {type(documents).__name__}. "
            f"For a single document give a list: [document]."
        )
    try:
        given = iter(documents)
    except TypeError:
        raise InvalidInputError(f"documents must be an iterable of strings, got {type(documents).__name__}.") from None
    texts = list(given)
    wrong = [position for position, text in enumerate(texts) if not isinstance(text, str)]
    if wrong:
        kinds = ", ".join(sorted({type(texts[position]).__name__ for position in wrong}))
        raise InvalidInputError(
            f"documents must be strings, got {kinds} at position {_listed(wrong)} (counted from 0) of {len(texts)}. "
            f"Nothing was ranked and nothing was changed: leave these out, or give their text."
        )
    return texts


def _listed(positions: list[int], most: int = 10) -> str:
    shown = ", ".join(str(position) for position in positions[:most])
    return f"{shown} and {len(positions) - most} more" if len(positions) > most else shown
