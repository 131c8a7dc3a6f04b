"""Asks a scorer, and checks what it gives."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rerank_plugins._internal.aio import on_thread
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.validation import listed
from rerank_plugins.errors import DeadlineExceededError, ScoringError
from rerank_plugins.scorers.base import DetailedScorer, Pair, QueuedScorer, Scale, ScoredPair, Scorer

Scored = list[ScoredPair | None]
"""One a pair, in order; None for what a deadline left out."""

# Documents between two looks at the clock, for scorers that cannot keep to a deadline themselves.
_STEP = 16


class Asked:
    """One question to a scorer, and how it went.

    A pair that comes several times is scored once: in two batches its scores would differ by rounding, and equal
    documents would lose their order.
    """

    def __init__(self, scorer: Scorer, scale: Scale, pairs: list[Pair], positions: Sequence[int]) -> None:
        """``positions``: what the pairs are called in messages."""
        self._scorer = scorer
        self._scale = scale
        numbers = {pair: number for number, pair in enumerate(dict.fromkeys(pairs))}
        self._pairs = list(numbers)
        # Of each given pair the place among those that differ.
        self._places = [numbers[pair] for pair in pairs]
        self._positions = positions
        self.queue_seconds = 0.0
        """How long the pairs waited for their turn; 0 where the scorer has no queue."""

    def answer(self, deadline: Deadline | None = None) -> Scored:
        """Finite scores on the scale.

        Raises:
            ScoringError: The scorer gave something else.
            DeadlineExceededError: At a deadline that is not to be answered in part.
        """
        if not self._pairs:
            return []
        if not isinstance(self._scorer, QueuedScorer):
            return self._in_steps(deadline)
        pending = self._scorer.submit(list(self._pairs), deadline=deadline)
        try:
            return self._checked(pending.result())
        finally:
            self.queue_seconds = pending.queue_seconds

    async def aanswer(self, deadline: Deadline | None = None) -> Scored:
        """`answer` without blocking the event loop."""
        if not self._pairs:
            return []
        if not isinstance(self._scorer, QueuedScorer):
            return await on_thread(self._in_steps, deadline)
        pending = self._scorer.submit(list(self._pairs), deadline=deadline)
        try:
            return self._checked(await pending.aresult())
        finally:
            self.queue_seconds = pending.queue_seconds

    def _in_steps(self, deadline: Deadline | None) -> Scored:
        step = len(self._pairs) if deadline is None else _STEP
        scored: Scored = []
        for start in range(0, len(self._pairs), step):
            if deadline is not None and not deadline.left():
                break
            scored += self._call(self._pairs[start : start + step])
        missing = len(self._pairs) - len(scored)
        late = deadline is not None and not deadline.left()
        if deadline is not None and not deadline.partial and (missing or late):
            done = sum(place < len(scored) for place in self._places)
            raise DeadlineExceededError(
                f"{done} of {len(self._places)} documents had a score after deadline={deadline.seconds:g} s. "
                f"Give more time or fewer documents, or take what is there with on_deadline='partial'."
            )
        return self._checked([*scored, *[None] * missing])

    def _call(self, pairs: list[Pair]) -> list[ScoredPair]:
        given: Any
        read: Callable[[Any], ScoredPair]
        name = type(self._scorer).__name__
        try:
            # A copy: what a scorer does to its argument must not change what is ranked.
            if isinstance(self._scorer, DetailedScorer):
                given, read = self._scorer.score_detailed(list(pairs)), _detailed
            else:
                given, read = self._scorer.score(list(pairs)), _plain
        except StopIteration as exc:
            # It would end a caller's loop as if all had gone well.
            raise RuntimeError(f"{name} raised StopIteration: {exc}") from exc
        try:
            scored = [read(one) for one in given]
        except (TypeError, ValueError, AttributeError) as exc:
            raise ScoringError(
                f"{name} gave no list of numbers for {len(pairs)} pairs "
                f"({type(exc).__name__}: {exc}), expected one number a pair. Nothing was ranked."
            ) from exc
        if len(scored) != len(pairs):
            raise ScoringError(
                f"{name} gave {len(scored)} scores for {len(pairs)} pairs, expected one a pair. Nothing was ranked."
            )
        return scored

    def _checked(self, differing: Scored) -> Scored:
        """One for each given pair, of one for each that differs."""
        if len(differing) != len(self._pairs):
            raise ScoringError(
                f"{type(self._scorer).__name__} gave {len(differing)} scores for {len(self._pairs)} pairs, "
                f"expected one a pair. Nothing was ranked."
            )
        scored = [differing[place] for place in self._places]
        known = [(p, one.score) for p, one in zip(self._positions, scored, strict=True) if one is not None]
        name = type(self._scorer).__name__
        bad = [position for position, score in known if not math.isfinite(score)]
        if bad:
            raise ScoringError(
                f"{name} gave NaN or infinite scores for documents {listed(bad)} "
                f"(counted from 0), expected finite numbers. Nothing was ranked; "
                f"where a model computes in fp16, try precision='bf16' or 'fp32'."
            )
        off = [position for position, score in known if self._scale == "probability" and not 0.0 <= score <= 1.0]
        if off:
            raise ScoringError(
                f"{name} says its scores are probabilities, but those of documents "
                f"{listed(off)} (counted from 0) lie outside [0, 1]. "
                f"If they are logits, use Reranker(scorer, scale='logit')."
            )
        return scored


def _plain(score: Any) -> ScoredPair:
    return ScoredPair(float(score), None)


def _detailed(scored: Any) -> ScoredPair:
    return ScoredPair(float(scored.score), None if scored.truncated is None else bool(scored.truncated))
