"""Batches: rows of one request, filled up with rows of others, through the model and back to their requests."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from typing import NamedTuple

from rerank_plugins.backends.base import Engine
from rerank_plugins.backends.cpu import release_freed_memory
from rerank_plugins.errors import OutOfMemoryError, RerankError, ScoringError
from rerank_plugins.inference.batching import BatchBuilder, pad_rows, round_up
from rerank_plugins.inference.request import Row, ScoringRequest
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers.base import Pair, ScoredPair
from rerank_plugins.stats import Counts
from rerank_plugins.tokenization.pair_encoder import PairEncoder

# Characters encoded at a time, for each token of the budget: at four a token, eight batches. Fewer would waste padding,
# more would keep the model waiting.
_UNIT_CHARACTERS = 32

# Batches between two returns of freed memory to the system.
_RELEASE_EVERY = 100

# The most characters of a token, on the average of a text. English has four or five.
_LONGEST_TOKEN = 8

_log = logging.getLogger("rerank_plugins.runtime")


class Part(NamedTuple):
    """The rows of one request in a batch, longest first."""

    request: ScoringRequest
    rows: list[Row]


class BatchWorker:
    """Encodes pairs and computes batches, on one thread at a time. Knows how fast the model is and what fits."""

    def __init__(
        self,
        encoder: PairEncoder,
        engine: Engine,
        counts: Counts,
        *,
        pad_token_id: int,
        token_budget: int,
        longest_row: int,
        cache: ScoreCache | None,
    ) -> None:
        self.token_budget = token_budget
        self.pairs = 0
        """Pairs that were computed."""
        self.characters = 0
        """Characters that were encoded."""
        self._encoder = encoder
        self._engine = engine
        self._counts = counts
        self._pad_token_id = pad_token_id
        self._cache = cache
        self._width = partial(round_up, multiple=engine.pad_to_multiple_of, most=longest_row)
        self._batches = 0
        self._tokens_a_second: float | None = None
        """Padded tokens."""
        # Characters that became so many tokens; at first a guess.
        self._read, self._tokens = 2, 1

    def build_batch(self, leader: ScoringRequest, others: Iterable[ScoringRequest]) -> list[Part]:
        """The leader's next batch, filled up with rows of others; empty if the leader has no more rows."""
        budget = self._budget(leader)
        if not self._prepare(leader, budget):
            return []
        engine = self._engine
        builder = BatchBuilder(budget, max_padding=engine.max_padding)
        parts = [Part(leader, leader.give_rows(builder))]
        builder.budget = min(budget, engine.shared_token_budget)
        # The leader waits while others are encoded: no more of them than could be of use.
        characters = 2 * builder.budget * self._read // self._tokens
        for other in others:
            if builder.padded_tokens + builder.width > builder.budget:
                break
            if not other.rows:
                if other.characters > characters:
                    continue
                characters -= other.characters
            if self._prepare(other, self._budget(other)) and (rows := other.give_rows(builder)):
                parts.append(Part(other, rows))
        return _return_last(parts, builder.surplus) if engine.few_shapes else parts

    def compute(self, batch: list[Part]) -> None:
        """Compute a batch and give the scores to its requests; an error goes to the request that caused it."""
        rows = [row.encoded for part in batch for row in part.rows]
        start = time.monotonic()
        try:
            arrays = pad_rows(rows, batch[0].rows[0].width, self._pad_token_id)
            logits = [float(logit) for logit in self._engine.logits(*arrays)]
            if len(logits) != len(rows):
                message = f"The engine gave {len(logits)} logits for {len(rows)} rows, expected one a row."
                raise ScoringError(message)  # noqa: TRY301 - handled like an error of the engine
        except OutOfMemoryError as exc:
            self._handle_out_of_memory(batch, exc)
        except Exception as exc:  # noqa: BLE001 - callers get it
            if len(batch) == 1:
                batch[0].request.fail(_as_scoring_error(exc))
                return
            for part in batch:  # each alone: one of them is the cause, the others are not
                self.compute([part])
        else:
            self._deliver(batch, logits, time.monotonic() - start)

    def _budget(self, request: ScoringRequest) -> int:
        """Padded tokens of the request's next batch: with a partial deadline half of what fits until then."""
        if request.deadline is None or not request.deadline.partial:
            return self.token_budget
        if self._tokens_a_second is None:
            return 1  # a single row shows how fast this machine is
        return max(1, int(min(self.token_budget, self._tokens_a_second * request.deadline.left() / 2)))

    def _prepare(self, request: ScoringRequest, budget: int) -> bool:
        """Whether the request has rows for a batch; encodes its next unit if it has none."""
        if request.begin():
            self._counts.add(queue_seconds=request.queue_seconds)
        look_up = None if self._cache is None else partial(self._look_up, self._cache)
        while not request.rows and not request.future.done():
            characters = budget * _UNIT_CHARACTERS
            if request.deadline is not None and request.deadline.partial:
                # No more than one batch: so the first documents have scores before the others.
                characters = budget * self._read // self._tokens
            try:
                positions = request.next_unit(characters, look_up)
                pairs = [request.pairs[position] for position in positions]
                request.put_unit(positions, self._encoder.windows(pairs) if pairs else [], self._width)
                self.characters += sum(sum(map(len, pair)) for pair in pairs)
            except BaseException as exc:  # noqa: BLE001 - callers get it; a tokenizer's panic is no Exception
                request.fail(_as_scoring_error(exc))
            self._learn_length(request)
        return bool(request.rows)

    def _look_up(self, cache: ScoreCache, pairs: list[Pair]) -> list[ScoredPair | None]:
        known = cache.get(pairs)
        hits = sum(one is not None for one in known)
        self._counts.add(cache_hits=hits, cache_misses=len(pairs) - hits)
        return known

    def _learn_length(self, request: ScoringRequest) -> None:
        """Update how many characters a token has."""
        tokens: Counter[int] = Counter()
        for row in request.rows:
            tokens[row.position] += len(row.encoded.input_ids)
        self._tokens += tokens.total()
        # Of a truncated text count only what its tokens can hold: a single long text must not make every token seem
        # long for hours.
        self._read += sum(min(sum(map(len, request.pairs[at])), _LONGEST_TOKEN * count) for at, count in tokens.items())

    def _handle_out_of_memory(self, batch: list[Part], exc: OutOfMemoryError) -> None:
        self._counts.add(out_of_memory=1)
        rows = sum(len(part.rows) for part in batch)
        if rows == 1:
            batch[0].request.fail(exc)
            return
        for request, part_rows in batch:
            request.take_back(part_rows)
        padded = rows * batch[0].rows[0].width
        self.token_budget = max(1, padded // 2)
        _log.warning(
            "Memory ran out at %d padded tokens; from now on a batch has at most %d. %s", padded, self.token_budget, exc
        )

    def _deliver(self, batch: list[Part], logits: list[float], seconds: float) -> None:
        padded = len(logits) * batch[0].rows[0].width
        tokens = sum(len(row.encoded.input_ids) for part in batch for row in part.rows)
        self._counts.add(batches=1, rows=len(logits), padded_tokens=padded, tokens=tokens, compute_seconds=seconds)
        speed = padded / max(seconds, 1e-9)
        self._tokens_a_second = speed if self._tokens_a_second is None else 0.7 * self._tokens_a_second + 0.3 * speed
        pairs: list[Pair] = []
        scored: list[ScoredPair] = []
        start = 0
        for request, rows in batch:
            completed = request.put_scores(rows, logits[start : start + len(rows)])
            start += len(rows)
            pairs += [request.pairs[position] for position in completed]
            scored += completed.values()
        self.pairs += len(pairs)
        # Last, when no caller waits for it.
        if self._cache is not None:
            self._cache.put(pairs, scored)
        self._batches += 1
        if self._batches % _RELEASE_EVERY == 0:
            release_freed_memory()


def _return_last(parts: list[Part], count: int) -> list[Part]:
    """The parts without their last ``count`` rows, which go back to their requests."""
    left = list(parts)
    while count:
        request, rows = left.pop()
        back = rows[max(0, len(rows) - count) :]
        request.take_back(back)
        count -= len(back)
        if len(back) < len(rows):
            left.append(Part(request, rows[: -len(back)]))
    return left


def _as_scoring_error(exc: BaseException) -> RerankError:
    """The error if it is a `RerankError`; else a `ScoringError` with it as the cause."""
    if isinstance(exc, RerankError):
        return exc
    error = ScoringError(f"The model failed: {type(exc).__name__}: {exc}")
    error.__cause__ = exc
    return error
