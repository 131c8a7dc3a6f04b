"""Encoder, scheduler and engine put together: pairs of texts in, logits out, in order."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.validation import checked_pairs
from rerank_plugins.backends.base import Engine, EngineName, Precision
from rerank_plugins.backends.fingerprint import fingerprint_model
from rerank_plugins.backends.load import load_engine
from rerank_plugins.errors import ScoringError
from rerank_plugins.hub.config import check_cross_encoder, find_pad_token_id, read_max_input_length
from rerank_plugins.inference.batching import Limits, rounded_up
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.inference.scheduler import Scheduler
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair
from rerank_plugins.stats import Counts
from rerank_plugins.tokenization.pair_encoder import MAX_QUERY_SHARE, EncodedPair, PairEncoder

MAX_QUEUED_PAIRS = 10_000
"""How many pairs may wait for a model: 200 calls of 50 documents."""


class CrossEncoderScorer:
    """Scores pairs with a cross-encoder. Safe to share between threads.

    Scores are raw logits (``scale`` says so). A pair's logit does not depend on the other pairs of
    the call: within 1e-4 in fp32.
    """

    scale: Scale = "logit"

    def __init__(
        self,
        encoder: PairEncoder,
        engine: Engine,
        *,
        pad_token_id: int = 0,
        token_budget: int | None = None,
        longest_row: int | None = None,
        max_queued_pairs: int = MAX_QUEUED_PAIRS,
        cache: ScoreCache | None = None,
    ) -> None:
        """Put an encoder and an engine together.

        ``token_budget`` None takes the engine's own. ``longest_row``: most tokens that the model reads, padding
        included; None takes the encoder's ``max_length``. ``max_queued_pairs`` as in `load_reranker`.
        """
        self.encoder = encoder
        self.engine = engine
        width = encoder.max_length if longest_row is None else longest_row
        self._rows = _Rows(encoder, engine, pad_token_id, width, cache)
        budget = engine.token_budget if token_budget is None else token_budget
        limits = Limits(budget, engine.shared_token_budget, engine.max_padding, engine.few_shapes)
        self._scheduler = Scheduler(self._rows, limits, max_queued_pairs=max_queued_pairs)

    @classmethod
    def from_folder(  # noqa: PLR0913 - every option of loading
        cls,
        folder: Path,
        *,
        engine: EngineName = "auto",
        precision: Precision = "auto",
        device: str | None = None,
        threads: int | None = None,
        max_length: int = 1024,
        max_query_share: float = MAX_QUERY_SHARE,
        max_windows: int = 1,
        max_queued_pairs: int = MAX_QUEUED_PAIRS,
        score_cache: int = 0,
        score_cache_folder: str | None = None,
    ) -> CrossEncoderScorer:
        """Load a model folder. ``max_length`` is lowered to what the model can read.

        ``max_windows`` is 1 where long documents are truncated; the rest is as in `load_reranker`.
        """
        check_cross_encoder(folder)
        longest = read_max_input_length(folder)
        length = max_length if longest is None else min(max_length, longest)
        encoder = PairEncoder.from_folder(folder, length, max_query_share=max_query_share, max_windows=max_windows)
        loaded = load_engine(folder, engine=engine, precision=precision, device=device, threads=threads)
        cache = None
        if score_cache:
            scope = f"{fingerprint_model(folder, loaded)} {encoder.max_length} {encoder.max_query_tokens} {max_windows}"
            scope += json.dumps(encoder.settings)
            cache = ScoreCache(scope, score_cache, None if score_cache_folder is None else Path(score_cache_folder))
        return cls(
            encoder,
            loaded,
            pad_token_id=find_pad_token_id(folder),
            longest_row=longest,
            max_queued_pairs=max_queued_pairs,
            cache=cache,
        )

    @property
    def max_length(self) -> int:
        """Most tokens of a pair, special tokens included."""
        return self.encoder.max_length

    @property
    def token_budget(self) -> int:
        """Slots of a batch at most: what was asked for, or less since memory ran out."""
        return self._scheduler.token_budget

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> ScoringRequest:
        """Have pairs scored, together with those of other callers; returns at once.

        Raises:
            OverloadedError: Too many pairs wait already.
            ClosedError: After `close`.
        """
        return self._scheduler.submit(pairs, deadline)

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, in order."""
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """One logit a pair, in order, and whether the model saw less than the whole pair."""
        found = self.submit(checked_pairs(pairs)).result()
        return [scored for scored in found if scored is not None]  # no deadline: all are there

    def counts(self) -> dict[str, Any]:
        """Fields of `Stats` and what they are by now."""
        known = {"waiting_pairs": self._scheduler.waiting_pairs(), "token_budget": self.token_budget}
        return self._scheduler.counts.plus(self._rows.counts.plus(known))

    def close(self) -> None:
        """End the thread that computes. What waits fails with `ClosedError`, and so does what comes."""
        self._scheduler.close()
        self._rows.close()


class _Rows:
    """What the scheduler has done: texts to rows, rows to logits."""

    def __init__(
        self, encoder: PairEncoder, engine: Engine, pad_token_id: int, longest_row: int, cache: ScoreCache | None
    ) -> None:
        self.counts = Counts()
        self._cache = cache
        self._encoder = encoder
        self._engine = engine
        self._pad_token_id = pad_token_id
        self._longest_row = longest_row

    def known(self, pairs: list[Pair]) -> list[ScoredPair | None]:
        if self._cache is None:
            return [None] * len(pairs)
        known = self._cache.get(pairs)
        hits = sum(one is not None for one in known)
        self.counts.add(cache_hits=hits, cache_misses=len(pairs) - hits)
        return known

    def encode(self, pairs: list[Pair]) -> Sequence[Sequence[EncodedPair]]:
        return self._encoder.windows(pairs)

    def width(self, row: EncodedPair) -> int:
        return rounded_up(len(row.input_ids), self._engine.pad_to_multiple_of, self._longest_row)

    def logits(self, rows: list[EncodedPair], width: int) -> list[float]:
        shape = (len(rows), width)
        input_ids = np.full(shape, self._pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            length = len(row.input_ids)
            input_ids[number, :length] = row.input_ids
            attention_mask[number, :length] = 1
            token_type_ids[number, :length] = row.token_type_ids
        logits = [float(logit) for logit in self._engine.logits(input_ids, attention_mask, token_type_ids)]
        if len(logits) != len(rows):
            raise ScoringError(f"The engine gave {len(logits)} logits for {len(rows)} rows, expected one a row.")
        return logits

    def learn(self, pairs: list[Pair], scored: list[ScoredPair]) -> None:
        if self._cache is not None:
            self._cache.put(pairs, scored)

    def close(self) -> None:
        if self._cache is not None:
            self._cache.close()
