"""`Reranker`: a query and documents in, the same documents out, best first."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from operator import attrgetter
from typing import Literal, Self, get_args

from rerank_plugins._internal.aio import on_thread, run_blocking
from rerank_plugins._internal.blank import is_blank
from rerank_plugins._internal.deadline import Deadline, OnDeadline, deadline_from_now
from rerank_plugins._internal.telemetry import get_instruments, observe_call
from rerank_plugins._internal.validation import (
    check_documents,
    check_pairs,
    check_query,
    check_score_threshold,
    check_top_n,
)
from rerank_plugins.calibration import Calibration
from rerank_plugins.errors import ClosedError, DeadlineExceededError, InvalidInputError, OverloadedError
from rerank_plugins.highlights import check_highlight, choose_sentences, pair_sentences, split_documents
from rerank_plugins.results import RankedResult, Ranking, cut, order_documents, sigmoid
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair, Scorer
from rerank_plugins.scorers.scoring_call import ScoringCall
from rerank_plugins.stats import Counts, Stats

__all__ = ["OnError", "Reranker"]

OnError = Literal["raise", "keep_order"]
"""What a call does when scoring fails: raise, or return the documents in retrieval order."""

_log = logging.getLogger("rerank_plugins.runtime")


class Reranker:
    """Reranks documents with any scorer. Safe to share between threads and event loops if its scorer is."""

    def __init__(self, scorer: Scorer, *, scale: Scale | None = None, calibration: Calibration | None = None) -> None:
        """Wrap a scorer.

        Args:
            scorer: Any object with ``score(pairs) -> list[float]``, LangChain cross-encoders included.
            scale: What its scores are: ``"logit"`` (a sigmoid is applied) or ``"probability"`` (used unchanged). None
                takes ``scorer.scale``, or ``"logit"`` where it has none.
            calibration: Turns its scores, on either scale, into probabilities of relevance. The order does not change.
        """
        if isinstance(scorer, type):
            raise InvalidInputError(
                f"scorer must be an object, got the class {scorer.__name__}. Create an instance of it."
            )
        if not callable(getattr(scorer, "score", None)):
            raise InvalidInputError(
                f"scorer must have a method score(pairs) -> list[float], got {type(scorer).__name__}. "
                f"For a model's name use load_reranker(name)."
            )
        scale = scale or getattr(scorer, "scale", None) or "logit"
        if scale not in get_args(Scale):
            raise InvalidInputError(f"scale must be 'logit' or 'probability', got {scale!r}.")
        if not isinstance(calibration, Calibration | None):
            raise InvalidInputError(
                f"calibration must be a Calibration or None, got {calibration!r}. "
                f"Read a file with Calibration.read(path)."
            )
        self.scorer = scorer
        self.scale: Scale = scale
        self.calibration = calibration
        self._counts = Counts()
        # Imported now: a child that is forked while another thread imports would wait for that import for ever.
        get_instruments()

    def __copy__(self) -> Reranker:
        """The reranker itself: its model, queue and counters are shared."""
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Reranker:
        """The reranker itself: a model is never copied."""
        return self

    def rerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        deadline: float | None = None,
        on_deadline: OnDeadline = "partial",
        on_error: OnError = "raise",
        highlight: bool = False,
    ) -> list[RankedResult]:
        """Order documents by relevance to the query.

        Args:
            query: A text with at least one letter, digit, punctuation mark or symbol.
            documents: Any iterable of strings; it is read once and never changed.
            top_n: How many to return; None returns all, 0 none.
            score_threshold: In [0, 1]; only documents with a score at or above it are returned, at most ``top_n``.
                Documents without a score are not dropped by it.
            deadline: Seconds from now, above 0; None waits until all documents are scored. A batch that is being
                computed at the deadline is not waited for. A custom scorer is given 16 documents at a time, and the
                clock is read in between.
            on_deadline: ``"partial"``: documents are scored in their input order, and those without a score at the
                deadline follow the others in this order, with ``score=None``. ``"raise"``: `DeadlineExceededError`.
            on_error: ``"keep_order"`` returns the documents in their input order, without scores, where the model
                fails, the queue is full, or ``on_deadline="raise"`` would raise. Wrong arguments and `ClosedError`
                are raised all the same.
            highlight: Also find the best sentence of each returned document; needs the extra ``highlight``. None where
                a sentence has no score at the deadline, or where finding them failed, which is logged.

        Returns:
            Results with scores in [0, 1], best first; equal scores keep their input order. A blank document (only
            white space, zero-width characters and other invisible ones) gets 0.0 without the model, and comes last.

        Raises:
            InvalidInputError: A blank query, a string for documents, a document that is no string,
                a wrong ``top_n`` or other argument.
            ScoringError: The scorer gave a wrong number of scores, or one that is not finite.
            OverloadedError: Too many pairs wait for the model.
            DeadlineExceededError: With ``on_deadline="raise"``.
            ClosedError: After `close`.
            MissingExtraError: With ``highlight``, without the extra; before anything is scored.
        """
        text_of = attrgetter("document") if check_highlight(highlight) else None
        options = (top_n, score_threshold, deadline, on_deadline, on_error)
        return run_blocking(self.rank_all(query, documents, text_of, *options, blocking=True)).kept

    async def arerank(
        self,
        query: str,
        documents: Iterable[str],
        *,
        top_n: int | None = None,
        score_threshold: float | None = None,
        deadline: float | None = None,
        on_deadline: OnDeadline = "partial",
        on_error: OnError = "raise",
        highlight: bool = False,
    ) -> list[RankedResult]:
        """`rerank` without blocking the event loop.

        When its task is cancelled, pairs that were not computed yet are dropped. A custom scorer runs on a thread,
        where it cannot be stopped.
        """
        text_of = attrgetter("document") if check_highlight(highlight) else None
        options = (top_n, score_threshold, deadline, on_deadline, on_error)
        return (await self.rank_all(query, documents, text_of, *options, blocking=False)).kept

    def score(self, pairs: Iterable[Pair] | Pair, /) -> list[float]:
        """The scorer's own scores, on ``scale``: one finite number a pair, in order.

        ``pairs``: any iterable of (query, passage) tuples or lists, or a numpy array [n, 2] of strings; or one pair
        alone, which gives a list of one number. Blank texts are scored like others.

        Raises:
            InvalidInputError: An item is not a pair of two strings.
            ScoringError: The scorer gave something else.
        """
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: Iterable[Pair] | Pair, /) -> list[ScoredPair]:
        """`score`, and whether each pair was truncated; None where the scorer cannot tell."""
        scored = run_blocking(ScoringCall(self.scorer, self.scale, check_pairs(pairs)).score(blocking=True))
        return [pair for pair in scored if pair is not None]  # without a deadline none is missing

    def as_score(self, raw: float) -> float:
        """The score in [0, 1] of a result whose raw score, by the scorer, is ``raw``."""
        if self.calibration is not None:
            return self.calibration.probability(raw)
        return self.as_uncalibrated(raw)

    def as_uncalibrated(self, raw: float) -> float:
        """`as_score` without the calibration: of a logit the sigmoid, on the scale that the model publishes."""
        # Asked for here, because an adapter as the scorer would have to load its model to know.
        return sigmoid(raw / getattr(self.scorer, "temperature", 1.0)) if self.scale == "logit" else raw

    def stats(self) -> Stats:
        """What this reranker and its model have done since they were created."""
        counts = getattr(self.scorer, "counts", None)
        return Stats(**self._counts.plus(counts() if callable(counts) else {}))

    def close(self) -> None:
        """End the model's thread, or what else the scorer's own ``close`` ends. Calls that wait get `ClosedError`.

        Waits for the batch that is being computed, ten seconds at most.
        """
        close = getattr(self.scorer, "close", None)
        if callable(close):
            close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await on_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _model_label(self) -> str:
        return type(self.scorer).__name__

    async def rank_all(
        self,
        query: str,
        documents: Iterable[str],
        highlight_text: Callable[[RankedResult], str] | None,
        top_n: int | None,
        score_threshold: float | None,
        deadline: float | None,
        on_deadline: OnDeadline,
        on_error: OnError,
        *,
        blocking: bool,
    ) -> Ranking:
        """`rerank` for this package's adapters, with the documents that are not kept; ``blocking`` for `run_blocking`.

        ``highlight_text`` gives the text of a kept result to find the best sentence of, which becomes its ``document``;
        None finds no highlights.
        """
        until = deadline_from_now(deadline, on_deadline)  # first: the rest takes time as well
        check_top_n(top_n)
        check_score_threshold(score_threshold)
        if on_error not in get_args(OnError):
            raise InvalidInputError(f"on_error must be 'raise' or 'keep_order', got {on_error!r}.")
        check_query(query)
        texts = check_documents(documents)
        if top_n == 0:
            return Ranking([], [])
        ranked = await self._order(query, texts, top_n, until, on_error, blocking=blocking)
        kept = cut(ranked, top_n=top_n, score_threshold=score_threshold)
        if highlight_text is not None:
            kept = await self.highlight_all(query, kept, highlight_text, until, blocking=blocking)
        return Ranking(ranked, kept)

    async def _order(
        self,
        query: str,
        texts: list[str],
        top_n: int | None,
        deadline: Deadline | None,
        on_error: OnError,
        *,
        blocking: bool,
    ) -> list[RankedResult]:
        """All documents in their new order, or in retrieval order after an error with ``"keep_order"``."""
        positions = [position for position, text in enumerate(texts) if not is_blank(text)]
        pairs = [(query, texts[position]) for position in positions]
        call = ScoringCall(self.scorer, self.scale, pairs, positions, deadline)
        attributes = {"reranker.model_name": self._model_label(), "rerank_plugins.documents": len(texts)}
        if top_n is not None:
            attributes["reranker.top_k"] = int(top_n)
        with observe_call(attributes) as metrics:
            self._counts.add(requests=bool(pairs))
            metrics.unscored = len(pairs)
            try:
                scored = await call.score(blocking=blocking)
            except Exception as exc:
                expired, overloaded = isinstance(exc, DeadlineExceededError), isinstance(exc, OverloadedError)
                self._counts.add(expired=expired, overloaded=overloaded)
                if on_error == "raise" or isinstance(exc, ClosedError):
                    raise
                metrics.fallback = exc
                self._counts.add(unranked=1)
                _log.warning("%d documents stay in retrieval order: %s: %s", len(texts), type(exc).__name__, exc)
                return [RankedResult(position, None, text) for position, text in enumerate(texts)]
            finally:
                metrics.queue_seconds = call.queue_seconds
            metrics.scored, metrics.truncated = self._count_pairs(scored)
            metrics.unscored -= metrics.scored
            if metrics.unscored:
                self._counts.add(partial=1)
                _log.warning("%d of %d documents had no score at the deadline.", metrics.unscored, len(texts))
        return order_documents(texts, positions, scored, self.as_score)

    async def highlight_all(
        self,
        query: str,
        results: list[RankedResult],
        highlight_text: Callable[[RankedResult], str],
        deadline: Deadline | None,
        *,
        blocking: bool,
    ) -> list[RankedResult]:
        """For `rank_all`: the best sentence of each text, which becomes the ``document``; all scored in one call."""
        results = [replace(result, document=highlight_text(result)) for result in results]
        if deadline is not None and not deadline.left():
            return results
        spans = split_documents(results) if blocking else await on_thread(split_documents, results)
        # Sentences without a score at the deadline cost highlights, and never an error.
        until = None if deadline is None else deadline._replace(partial=True)
        try:
            call = ScoringCall(self.scorer, self.scale, pair_sentences(query, results, spans), deadline=until)
            scored = await call.score(blocking=blocking)
        except ClosedError:
            raise
        except Exception as exc:  # noqa: BLE001 - the ranking is valid without highlights
            _log.warning("No highlights: %s: %s", type(exc).__name__, exc)
            return results
        self._count_pairs(scored)
        return choose_sentences(results, spans, scored, self.as_score)

    def _count_pairs(self, scored: Sequence[ScoredPair | None]) -> tuple[int, int]:
        """How many pairs have a score, and how many of these were truncated; both are added to the counters."""
        known = [pair for pair in scored if pair is not None]
        truncated = sum(pair.truncated is True for pair in known)
        self._counts.add(pairs=len(known), truncated=truncated)
        return len(known), truncated
