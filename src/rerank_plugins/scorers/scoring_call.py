"""One call of a scorer, and the checks of what it returns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from rerank_plugins._internal.aio import on_thread
from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.validation import format_positions
from rerank_plugins.errors import DeadlineExceededError, ScoringError
from rerank_plugins.scorers.base import DetailedScorer, Pair, Pending, QueuedScorer, Scale, ScoredPair, Scorer

STEP = 16
"""Documents that a scorer without a queue scores between two looks at the clock."""


class ScoringCall:
    """Pairs to be scored by a deadline."""

    def __init__(
        self,
        scorer: Scorer,
        scale: Scale,
        pairs: list[Pair],
        positions: Sequence[int] | None = None,
        deadline: Deadline | None = None,
    ) -> None:
        """``positions`` are the numbers of the pairs in messages; None counts them from 0."""
        self._scorer = scorer
        self._scale = scale
        # A pair that comes several times is scored once: in two batches its scores would differ by rounding, and equal
        # documents would lose their order.
        places = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
        self._unique = list(places)
        self._places = [places[pair] for pair in pairs]
        self._positions = range(len(pairs)) if positions is None else positions
        self._deadline = deadline
        self._pending: Pending | None = None

    @property
    def queue_seconds(self) -> float:
        """How long the pairs waited for their turn; 0 where the scorer has no queue."""
        return 0.0 if self._pending is None else self._pending.queue_seconds

    async def score(self, *, blocking: bool) -> list[ScoredPair | None]:
        """Finite scores, one a pair; None for what a deadline left out. ``blocking`` waits without an event loop."""
        if not self._unique:
            return []
        if not isinstance(self._scorer, QueuedScorer):
            return self._score_in_steps() if blocking else await on_thread(self._score_in_steps)
        self._pending = self._scorer.submit(list(self._unique), deadline=self._deadline)
        return self._check(self._pending.result() if blocking else await self._pending.aresult())

    def _score_in_steps(self) -> list[ScoredPair | None]:
        deadline = self._deadline
        step = len(self._unique) if deadline is None else STEP
        scored: list[ScoredPair | None] = []
        for start in range(0, len(self._unique), step):
            if deadline is not None and not deadline.left():
                break
            scored += self._score(self._unique[start : start + step])
        missing = len(self._unique) - len(scored)
        if deadline is not None and not deadline.partial and (missing or not deadline.left()):
            done = sum(place < len(scored) for place in self._places)
            raise DeadlineExceededError(
                f"{done} of {len(self._places)} documents had a score after deadline={deadline.seconds:g} s. "
                f"Give more time or fewer documents, or take what is there with on_deadline='partial'."
            )
        return self._check([*scored, *[None] * missing])

    def _score(self, pairs: list[Pair]) -> list[ScoredPair]:
        name = type(self._scorer).__name__
        detailed = isinstance(self._scorer, DetailedScorer)
        score: Callable[[list[Pair]], Any] = getattr(self._scorer, "score_detailed" if detailed else "score")
        try:
            returned = score(list(pairs))  # a copy: a scorer that changes it must not change what is ranked
        except StopIteration as exc:
            # It would end a caller's loop as if all had gone well.
            raise RuntimeError(f"{name} raised StopIteration: {exc}") from exc
        try:
            numbers = [(one.score, one.truncated) if detailed else (one, None) for one in returned]
            scored = [ScoredPair(float(number), None if cut is None else bool(cut)) for number, cut in numbers]
        except (TypeError, ValueError, AttributeError) as exc:
            raise ScoringError(
                f"{name} gave no list of numbers for {len(pairs)} pairs "
                f"({type(exc).__name__}: {exc}), expected one number a pair. Nothing was ranked."
            ) from exc
        self._check_number(len(scored), len(pairs))
        return scored

    def _check(self, unique: list[ScoredPair | None]) -> list[ScoredPair | None]:
        """The scores of all pairs, from those of the unique ones."""
        self._check_number(len(unique), len(self._unique))
        scored = [unique[place] for place in self._places]
        name = type(self._scorer).__name__
        known = [(p, one.score) for p, one in zip(self._positions, scored, strict=True) if one is not None]
        not_finite = [position for position, score in known if not math.isfinite(score)]
        if not_finite:
            raise ScoringError(
                f"{name} gave NaN or infinite scores for documents "
                f"{format_positions(not_finite)} (counted from 0), expected finite numbers. Nothing was ranked; "
                f"where a model computes in fp16, try precision='bf16' or 'fp32'."
            )
        outside = [position for position, score in known if self._scale == "probability" and not 0.0 <= score <= 1.0]
        if outside:
            raise ScoringError(
                f"{name} says its scores are probabilities, but those of documents "
                f"{format_positions(outside)} (counted from 0) lie outside [0, 1]. "
                f"If they are logits, use Reranker(scorer, scale='logit')."
            )
        return scored

    def _check_number(self, scores: int, pairs: int) -> None:
        if scores != pairs:
            raise ScoringError(
                f"{type(self._scorer).__name__} gave {scores} scores for {pairs} pairs, expected one a pair. "
                f"Nothing was ranked."
            )
