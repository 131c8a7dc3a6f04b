"""`Reranker`: a query and documents in, the same documents out, best first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self, get_args

from rerank_plugins._internal.aio import on_thread
from rerank_plugins._internal.deadline import Deadline, OnDeadline, deadline_from_now
from rerank_plugins._internal.telemetry import Facts, instruments, observed
from rerank_plugins._internal.validation import check_query, checked_documents, checked_pairs
from rerank_plugins.calibration import Calibration
from rerank_plugins.errors import ClosedError, DeadlineExceededError, InvalidInputError, OverloadedError
from rerank_plugins.highlights import Sentences, check_highlight, in_part
from rerank_plugins.rerank_call import Call, OnError
from rerank_plugins.results import RankedResult, check_score_threshold, check_top_n, sigmoid
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair, Scorer
from rerank_plugins.scorers.scoring_call import Asked
from rerank_plugins.stats import Counts, Stats

_log = logging.getLogger("rerank_plugins.runtime")


class Reranker:
    """Reranks documents with any scorer. Safe to share between threads and event loops if its scorer is."""

    def __init__(self, scorer: Scorer, *, scale: Scale | None = None, calibration: Calibration | None = None) -> None:
        """Hold a scorer.

        Args:
            scorer: Any object with ``score(pairs) -> list[float]``, LangChain cross-encoders included.
            scale: What its numbers are: ``"logit"`` (a sigmoid is applied) or ``"probability"``
                (used as they are). None takes ``scorer.scale``, or ``"logit"`` where it has none.
            calibration: Turns its numbers, on either scale, into the scores of results, which are then probabilities of
                relevance. The order stays that of the numbers.
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
        if not isinstance(calibration, Calibration | None):
            raise InvalidInputError(
                f"calibration must be a Calibration or None, got {calibration!r}. "
                f"Read a file with Calibration.read(path)."
            )
        self.scorer = scorer
        self.scale: Scale = chosen
        self.calibration = calibration
        self._counts = Counts()
        # Imported now: a child that is forked while another thread imports would wait for that import for ever.
        instruments()

    def __deepcopy__(self, memo: dict[int, object]) -> Reranker:
        """Itself: its model is not to be copied."""
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
            query: Not blank: some letter, digit, punctuation mark or symbol is in it.
            documents: Any iterable of strings; it is read once and never changed.
            top_n: How many to return; None returns all, 0 none.
            score_threshold: In [0, 1]; only scores at or above it are returned, at most ``top_n``. Documents
                without a score are not dropped by it.
            deadline: Seconds from now, above 0; None waits as long as it takes. What is computed when they are over
                goes on, but is not waited for. A scorer of one's own is asked for 16 documents at a time,
                and the clock is read in between.
            on_deadline: ``"partial"``: documents are scored in the order they were given in, and what has no score
                at the deadline follows the others in this order, with ``score=None``. ``"raise"``: an error instead.
            on_error: ``"keep_order"`` answers a failure of the model, an overload, or what ``on_deadline="raise"``
                would raise, with the documents in the order
                they were given in, without scores. What is wrong with the arguments is raised all the same,
                and so is `ClosedError`.
            highlight: Also find the best sentence of each document returned, as `highlighted` does; needs the
                extra ``highlight``.

        Returns:
            Results with scores in [0, 1], best first; equal scores keep their input order. A blank
            document (white space, zero-width characters, and what else shows a reader nothing) has nothing to match:
            it gets 0.0, without the model, and comes last.

        Raises:
            InvalidInputError: A blank query, a string for documents, a document that is no string,
                a wrong ``top_n`` or other argument.
            ScoringError: The scorer gave a wrong number of scores, or one that is not finite.
            OverloadedError: Too many pairs wait for the model.
            DeadlineExceededError: With ``on_deadline="raise"``.
            ClosedError: After `close`.
            MissingExtraError: With ``highlight``, without the extra; before anything is scored.
        """
        check_highlight(highlight)
        call = self._checked(query, documents, top_n, score_threshold, deadline, on_deadline, on_error)
        if top_n == 0:
            return []
        with self._counted(call) as asked:
            call.scored = asked.answer(call.deadline)
        results = call.results(self.as_score)
        return self.highlighted(query, results, deadline=call.deadline) if highlight else results

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
        """`rerank` without blocking the event loop. When its task is cancelled, what was not computed yet is dropped.

        A scorer of one's own runs on a thread, where it cannot be stopped.
        """
        check_highlight(highlight)
        call = self._checked(query, documents, top_n, score_threshold, deadline, on_deadline, on_error)
        if top_n == 0:
            return []
        with self._counted(call) as asked:
            call.scored = await asked.aanswer(call.deadline)
        results = call.results(self.as_score)
        return await self.ahighlighted(query, results, deadline=call.deadline) if highlight else results

    def highlighted(
        self, query: str, results: Iterable[RankedResult], *, deadline: Deadline | None = None
    ) -> list[RankedResult]:
        """The results, each with the best sentence of its document.

        All sentences are scored in one go. A result without a score, a blank document, and one whose sentences do not
        all have a score at the deadline have no highlight. A failure is logged and leaves all without: it undoes no
        ranking.

        Raises:
            InvalidInputError: A blank query, or a result that is none.
            MissingExtraError: The extra ``highlight`` is not installed.
            ClosedError: After `close`.
        """
        if deadline is not None and not deadline.left():
            return list(results)
        sentences = Sentences(query, results)
        with sentences.asked(self.scorer, self.scale, self._counts) as asked:
            sentences.scored = asked.answer(in_part(deadline))
        return sentences.best(self.as_score)

    async def ahighlighted(
        self, query: str, results: Iterable[RankedResult], *, deadline: Deadline | None = None
    ) -> list[RankedResult]:
        """`highlighted` without blocking the event loop."""
        if deadline is not None and not deadline.left():
            return list(results)
        sentences = await on_thread(Sentences, query, results)
        with sentences.asked(self.scorer, self.scale, self._counts) as asked:
            sentences.scored = await asked.aanswer(in_part(deadline))
        return sentences.best(self.as_score)

    def score(self, pairs: Iterable[Pair] | Pair, /) -> list[float]:
        """The scorer's own numbers, on ``scale``, checked: one finite number a pair, in order.

        Args:
            pairs: Any iterable of (query, passage) tuples or lists, or a numpy array [n, 2] of strings; or one pair
                alone, which gives a list of one number. Blank texts are scored like others.

        Raises:
            InvalidInputError: Something among them is no pair of two strings.
            ScoringError: The scorer gave something else.
        """
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: Iterable[Pair] | Pair, /) -> list[ScoredPair]:
        """As `score`, with the truncation of each pair, None where the scorer cannot tell."""
        given = checked_pairs(pairs)
        scored = Asked(self.scorer, self.scale, given, range(len(given))).answer()
        return [one for one in scored if one is not None]  # without a deadline all are there

    def as_score(self, raw: float) -> float:
        """The score that results have, in [0, 1], for a number of the scorer's own."""
        if self.calibration is not None:
            return self.calibration.probability(raw)
        return sigmoid(raw) if self.scale == "logit" else raw

    def stats(self) -> Stats:
        """What this reranker and its model have done since they were made."""
        counts = getattr(self.scorer, "counts", None)
        return Stats(**self._counts.plus(counts() if callable(counts) else {}))

    def close(self) -> None:
        """End the model's thread, or whatever the scorer's own ``close`` ends. Calls that wait get `ClosedError`.

        Waits for the batch at work, ten seconds at most.
        """
        close = getattr(self.scorer, "close", None)
        if callable(close):
            close()

    async def aclose(self) -> None:
        """`close` without blocking the event loop."""
        await on_thread(self.close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _model_label(self) -> str:
        """The model as traces name it."""
        return type(self.scorer).__name__

    def _checked(
        self,
        query: str,
        documents: Iterable[str],
        top_n: int | None,
        score_threshold: float | None,
        deadline: float | None,
        on_deadline: OnDeadline,
        on_error: OnError,
    ) -> Call:
        # First of all: what comes now takes time as well.
        until = deadline_from_now(deadline, on_deadline)
        check_top_n(top_n)
        check_score_threshold(score_threshold)
        if on_error not in get_args(OnError):
            raise InvalidInputError(f"on_error must be 'raise' or 'keep_order', got {on_error!r}.")
        check_query(query)
        return Call(query, checked_documents(documents), top_n, score_threshold, until, on_error)

    @contextmanager
    def _counted(self, call: Call) -> Iterator[Asked]:
        """Around the scoring of a call: its span, its counters, and what happens when it fails."""
        pairs = [(call.query, call.texts[position]) for position in call.filled]
        asked = Asked(self.scorer, self.scale, pairs, call.filled)
        attributes = {
            "reranker.model_name": self._model_label(),
            "rerank_plugins._internal.validation": len(call.texts),
        }
        if call.top_n is not None:
            attributes["reranker.top_k"] = int(call.top_n)
        with observed(attributes) as facts:
            self._counts.add(requests=bool(call.filled))
            try:
                yield asked
            except Exception as exc:
                facts.unscored = len(call.filled)
                late, refused = isinstance(exc, DeadlineExceededError), isinstance(exc, OverloadedError)
                self._counts.add(expired=late, overloaded=refused)
                if call.on_error == "raise" or isinstance(exc, ClosedError):
                    raise
                call.scored, facts.fallback = None, exc
            finally:
                facts.queue_seconds = asked.queue_seconds
            self._count(call, facts)

    def _count(self, call: Call, facts: Facts) -> None:
        scored = [one for one in call.scored or () if one is not None]
        facts.scored = len(scored)
        facts.unscored = len(call.filled) - len(scored)
        facts.truncated = sum(one.truncated is True for one in scored)
        self._counts.add(pairs=facts.scored, truncated=facts.truncated)
        if facts.fallback is not None:
            self._counts.add(unranked=1)
            kind = "overloaded" if isinstance(facts.fallback, OverloadedError) else type(facts.fallback).__name__
            _log.warning("%d documents stay in retrieval order: %s: %s", len(call.texts), kind, facts.fallback)
        elif facts.unscored:
            self._counts.add(partial=1)
            _log.warning("%d of %d documents had no score at the deadline.", facts.unscored, len(call.texts))
