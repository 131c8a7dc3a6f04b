"""One batch: rows of one request, filled up with rows of others, through the model and back to their requests."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from rerank_plugins.errors import OutOfMemoryError, RerankError, ScoringError
from rerank_plugins.inference.batching import Filling, Limits
from rerank_plugins.inference.request import Row, ScoringRequest
from rerank_plugins.scorers.base import Pair, ScoredPair
from rerank_plugins.stats import Counts
from rerank_plugins.tokenization.pair_encoder import EncodedPair

# Characters encoded at a time, for a slot of the token budget: at four a token, eight batches. Fewer would waste
# padding, more would keep the model waiting.
_UNIT_CHARACTERS = 32

# Characters of a token, at most, on the average of a text. English has four or five.
_LONGEST_TOKEN = 8


class Work(Protocol):
    """What a worker does for its requests. Only ever called by one thread at a time."""

    def known(self, pairs: list[Pair]) -> list[ScoredPair | None]:
        """One a pair: its score, where that is known."""
        ...

    def encode(self, pairs: list[Pair]) -> Sequence[Sequence[EncodedPair]]:
        """The rows of each pair: one, or several whose best score is the pair's."""
        ...

    def width(self, row: EncodedPair) -> int:
        """Slots of a row in a batch."""
        ...

    def logits(self, rows: list[EncodedPair], width: int) -> list[float]:
        """One a row, which are no longer than ``width``. `OutOfMemoryError` if fewer rows at a time might work."""
        ...

    def learn(self, pairs: list[Pair], scored: list[ScoredPair]) -> None:
        """Keep scores for another time."""
        ...


_log = logging.getLogger("rerank_plugins.runtime")


class _Part(NamedTuple):
    """What a request has in a batch."""

    request: ScoringRequest
    rows: list[Row]


class BatchWorker:
    """Knows how fast the model is and how much fits. Used by one thread at a time."""

    def __init__(self, work: Work, limits: Limits, counts: Counts) -> None:
        """``limits``: the token budget holds until memory runs out."""
        self.token_budget = limits.token_budget
        self.pairs = 0
        """How many were computed."""
        self.shared_slots = limits.shared_slots
        self._limits = limits
        self._work = work
        self._counts = counts
        self._slots_a_second: float | None = None
        self.characters = 0
        """How many were encoded, of all texts."""
        # How many of them became how many tokens; at first a guess.
        self._read, self._tokens = 2, 1

    def serve(self, leader: ScoringRequest, others: Iterable[ScoringRequest], in_hand: list[ScoringRequest]) -> None:
        """Compute the leader's next batch. Puts the others that have a part in it into ``in_hand``."""
        budget = self._budget(leader)
        if not self._ready(leader, budget):
            return
        filling = Filling(budget, max_padding=self._limits.max_padding, few_shapes=self._limits.few_shapes)
        parts = [_Part(leader, leader.give(filling))]
        filling.budget = min(budget, self.shared_slots)
        # The leader waits while others are encoded: no more of them than could be of use.
        characters = 2 * filling.budget * self._read // self._tokens
        for other in others:
            if filling.slots + filling.width > filling.budget:
                break
            if not other.rows:
                if other.characters > characters:
                    continue
                characters -= other.characters
            rows = other.give(filling) if self._ready(other, self._budget(other)) else []
            if rows:
                in_hand.append(other)
                parts.append(_Part(other, rows))
        self._compute(_without_last(parts, filling.surplus), filling.width)

    def _budget(self, request: ScoringRequest) -> int:
        """Slots of the request's next batch; where part of it would do at a deadline, half of what fits until then."""
        if request.deadline is None or not request.deadline.partial:
            return self.token_budget
        if self._slots_a_second is None:
            return 1  # a single row tells how fast this machine is
        return max(1, int(min(self.token_budget, self._slots_a_second * request.deadline.left() / 2)))

    def _ready(self, request: ScoringRequest, budget: int) -> bool:
        """Whether the request has rows for a batch; encodes its next unit if it has none."""
        if request.begin():
            self._counts.add(queue_seconds=request.queue_seconds)
        while not request.rows and not request.future.done():
            characters = budget * _UNIT_CHARACTERS
            if request.deadline is not None and request.deadline.partial:
                # No more than one batch: so the first documents have scores before the others.
                characters = budget * self._read // self._tokens
            try:
                positions = request.next_unit(characters, self._work.known)
                pairs = [request.pairs[position] for position in positions]
                request.put_unit(positions, self._work.encode(pairs) if pairs else [], self._work.width)
                self.characters += sum(sum(map(len, pair)) for pair in pairs)
            except BaseException as exc:  # noqa: BLE001 - it is that request's; a tokenizer's panic is no Exception
                request.fail(_scoring_error(exc))
            self._learn_length(request)
        return bool(request.rows)

    def _learn_length(self, request: ScoringRequest) -> None:
        tokens: Counter[int] = Counter()
        for row in request.rows:
            tokens[row.position] += len(row.encoded.input_ids)
        self._tokens += tokens.total()
        # Of a text that was cut only so much was read as its tokens can hold: a single long one must not make
        # every token seem long for hours.
        self._read += sum(min(sum(map(len, request.pairs[at])), _LONGEST_TOKEN * count) for at, count in tokens.items())

    def _compute(self, parts: list[_Part], width: int) -> None:
        rows = [row.encoded for part in parts for row in part.rows]
        start = time.monotonic()
        try:
            logits = self._work.logits(rows, width)
        except OutOfMemoryError as exc:
            self._out_of_memory(parts, len(rows) * width, exc)
        except Exception as exc:  # noqa: BLE001 - callers get it
            if len(parts) == 1:
                parts[0].request.fail(_scoring_error(exc))
            for part in parts if len(parts) > 1 else ():
                self._compute([part], part.rows[0].width)  # one of them is to blame, the others are not
        else:
            self._deliver(parts, logits, len(rows) * width, time.monotonic() - start)

    def _out_of_memory(self, parts: list[_Part], slots: int, exc: OutOfMemoryError) -> None:
        self._counts.add(out_of_memory=1)
        if len(parts) == 1 and len(parts[0].rows) == 1:
            parts[0].request.fail(exc)
            return
        for request, rows in parts:
            request.take_back(rows)
        self.token_budget = max(1, slots // 2)
        _log.warning(
            "Memory ran out at %d slots; from now on a batch has at most %d. %s", slots, self.token_budget, exc
        )

    def _deliver(self, parts: list[_Part], logits: list[float], slots: int, seconds: float) -> None:
        tokens = sum(len(row.encoded.input_ids) for part in parts for row in part.rows)
        self._counts.add(batches=1, rows=len(logits), slots=slots, tokens=tokens, compute_seconds=seconds)
        speed = slots / max(seconds, 1e-9)
        self._slots_a_second = speed if self._slots_a_second is None else 0.7 * self._slots_a_second + 0.3 * speed
        pairs: list[Pair] = []
        scored: list[ScoredPair] = []
        start = 0
        for request, rows in parts:
            completed = request.put_scores(rows, logits[start : start + len(rows)], seconds)
            start += len(rows)
            pairs += [request.pairs[position] for position in completed]
            scored += completed.values()
        self.pairs += len(pairs)
        # When everybody has what is theirs.
        self._work.learn(pairs, scored)


def _without_last(parts: list[_Part], count: int) -> list[_Part]:
    """The parts without their last ``count`` rows, which their requests have back."""
    left = list(parts)
    while count:
        request, rows = left.pop()
        back = rows[max(0, len(rows) - count) :]
        request.take_back(back)
        count -= len(back)
        if len(back) < len(rows):
            left.append(_Part(request, rows[: -len(back)]))
    return left


def _scoring_error(exc: BaseException) -> RerankError:
    """The error itself if it is one of ours; else one that has it as its cause, so that callers can catch one kind."""
    if isinstance(exc, RerankError):
        return exc
    error = ScoringError(f"The model failed: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
