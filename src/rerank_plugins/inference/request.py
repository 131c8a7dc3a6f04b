"""The pairs of one call, on their way to scores."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import math
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from rerank_plugins._internal.deadline import Deadline
from rerank_plugins.errors import DeadlineExceededError, ScoringError
from rerank_plugins.inference.batching import BatchBuilder
from rerank_plugins.scorers.base import Pair, ScoredPair
from rerank_plugins.tokenization.pair_encoder import EncodedPair

# Pairs that are looked up in the cache at a time (999 at most), and that a unit has: other requests wait meanwhile.
_LOOKUP_PAIRS, _UNIT_PAIRS = 512, 4096


class Row(NamedTuple):
    """A pair, or a window of one, that is ready for the model."""

    position: int
    encoded: EncodedPair
    width: int
    """Its length in a batch, with the padding to the engine's multiple."""


class ScoringRequest:
    """The pairs of one call. Its caller waits for the scores; one worker computes them.

    Pairs are encoded and scored in units, in their input order; within a unit in any order. A deadline gives the scores
    of complete units only, so the scored pairs are always the first ones.
    """

    def __init__(self, pairs: Sequence[Pair], deadline: Deadline | None) -> None:
        self.pairs = pairs
        self.deadline = deadline
        self.future: concurrent.futures.Future[list[ScoredPair | None]] = concurrent.futures.Future()
        self.context = contextvars.copy_context()
        self.characters = sum(len(query) + len(passage) for query, passage in pairs)
        """Characters of the pairs that have no score: an estimate of the work that is left."""
        self.arrived_at = 0
        """The worker's total of characters when the request arrived."""
        self.counted = 0
        """The number of this request's pairs in the scheduler's count of waiting pairs."""
        self.rows: list[Row] = []
        """Rows that are encoded and not computed, longest first."""
        self.queue_seconds = 0.0
        self._arrived = time.monotonic()
        self._begun = False
        self._scores: list[ScoredPair | None] = [None] * len(pairs)
        # By position, how many rows the pairs of this unit have, and the scores of those that were computed.
        self._expected: dict[int, int] = {}
        self._row_scores: dict[int, list[float]] = {}
        self._unit_end = 0
        self._looked_up = 0
        self._complete = 0

    # For the caller.

    def result(self) -> list[ScoredPair | None]:
        """Wait for the scores: one a pair, in order; at a deadline, None for those that are missing."""
        try:
            self.future.exception(timeout=self._left())
        except TimeoutError:
            self._expire()
        except BaseException:
            self.future.cancel()  # the caller was interrupted: nothing need be computed
            raise
        return self.future.result()

    async def aresult(self) -> list[ScoredPair | None]:
        """`result` for event loops. Cancelling the task that waits drops the pairs."""
        loop, done = asyncio.get_running_loop(), asyncio.Event()

        def wake(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(done.set)

        self.future.add_done_callback(wake)
        try:
            async with asyncio.timeout(self._left()):
                await done.wait()
        except TimeoutError:
            self._expire()
        except BaseException:
            self.future.cancel()
            raise
        return self.future.result()

    def _left(self) -> float | None:
        return None if self.deadline is None else self.deadline.left()

    def _expire(self) -> None:
        """Answer the caller at the deadline, unless all scores have just come."""
        complete = self._complete  # read once: the worker may go on
        if self.deadline is None or self.deadline.partial:
            self._answer([*self._scores[:complete], *[None] * (len(self.pairs) - complete)])
            return
        self.fail(
            DeadlineExceededError(
                f"{complete} of {len(self.pairs)} documents had a score after deadline={self.deadline.seconds:g} s "
                f"({self.queue_seconds:.3f} s of it before their turn came). Give more time or fewer documents, or "
                f"take what is there with on_deadline='partial'."
            )
        )

    # For the worker, which alone calls what follows.

    @property
    def waiting(self) -> int:
        """Pairs that are not known to have a score."""
        return len(self.pairs) - self._complete

    def begin(self) -> bool:
        """Note that work begins; True at the first call."""
        if self._begun:
            return False
        self._begun = True
        self.queue_seconds = time.monotonic() - self._arrived
        return True

    def next_unit(self, characters: int, look_up: Callable[[list[Pair]], list[ScoredPair | None]] | None) -> list[int]:
        """Positions of the next pairs to encode: at least one, and about ``characters`` of text.

        Pairs whose score ``look_up`` knows are skipped and cost nothing; a unit of only such pairs is empty.
        """
        unit: list[int] = []
        for position in range(self._unit_end, min(len(self.pairs), self._unit_end + _UNIT_PAIRS)):
            if look_up is not None and position == self._looked_up:
                self._look_up(look_up)
            if self._scores[position] is None:
                if unit and characters <= 0:
                    break
                characters -= sum(map(len, self.pairs[position]))
                unit.append(position)
            self._unit_end = position + 1
        return unit

    def _look_up(self, look_up: Callable[[list[Pair]], list[ScoredPair | None]]) -> None:
        pairs = list(self.pairs[self._looked_up : self._looked_up + _LOOKUP_PAIRS])
        for position, scored in enumerate(look_up(pairs), self._looked_up):
            if scored is not None:
                self._set_score(position, scored)
        self._looked_up += len(pairs)

    def put_unit(
        self, positions: Sequence[int], encoded: Sequence[Sequence[EncodedPair]], width: Callable[[int], int]
    ) -> None:
        """Take the encoded rows of the pairs that `next_unit` gave; ``width`` gives the length of one with padding."""
        self._expected = {position: len(rows) for position, rows in zip(positions, encoded, strict=True)}
        self._row_scores = {position: [] for position in positions}
        self.rows = [
            Row(position, row, width(len(row.input_ids)))
            for position, rows in zip(positions, encoded, strict=True)
            for row in rows
        ]
        self.rows.sort(key=lambda row: -row.width)
        self._settle()

    def give_rows(self, batch: BatchBuilder) -> list[Row]:
        """Move the rows that fit into a batch."""
        taken = batch.take([row.width for row in self.rows])
        rows = self.rows[taken]
        del self.rows[taken]
        return rows

    def take_back(self, rows: list[Row]) -> None:
        """Take rows whose batch was not computed."""
        self.rows = sorted([*self.rows, *rows], key=lambda row: (-row.width, row.position))

    def put_scores(self, rows: list[Row], scores: Sequence[float]) -> dict[int, ScoredPair]:
        """Take the scores of rows. Returns the pairs that have all of theirs now, by position."""
        completed = {}
        for row, score in zip(rows, scores, strict=True):
            found = self._row_scores[row.position]
            found.append(score)
            if len(found) == self._expected[row.position]:
                # One that is not a finite number counts as the highest, so that it is noticed.
                best = max(found, key=lambda score: (not math.isfinite(score), score))
                completed[row.position] = ScoredPair(best, row.encoded.truncated)
        for position, scored in completed.items():
            self._set_score(position, scored)
        self._settle()
        return completed

    def _settle(self) -> None:
        """Note that a unit is complete, and give the result when all are."""
        if self.rows:
            return
        self._complete = self._unit_end
        if self.waiting:
            return
        if None in self._scores:  # never, but it would rank wrongly in silence
            self.fail(ScoringError(f"{self._scores.count(None)} of {len(self.pairs)} pairs were lost on the way."))
        self._answer(self._scores)

    def fail(self, error: BaseException) -> None:
        """Answer the caller with an error."""
        with contextlib.suppress(concurrent.futures.InvalidStateError):  # answered already, or cancelled
            self.future.set_exception(error)

    def _answer(self, scores: list[ScoredPair | None]) -> None:
        with contextlib.suppress(concurrent.futures.InvalidStateError):
            self.future.set_result(scores)

    def _set_score(self, position: int, scored: ScoredPair) -> None:
        self._scores[position] = scored
        self.characters -= sum(map(len, self.pairs[position]))
