"""Scores pairs of texts with a cross-encoder: tokenizer, queue and engine together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from weakref import finalize

from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.validation import check_pairs
from rerank_plugins.backends.auto import Engine, EngineName, Precision, load_engine
from rerank_plugins.backends.identity import identity
from rerank_plugins.hub import folder as model_folder
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.inference.scheduler import Scheduler
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.inference.worker import BatchWorker
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair
from rerank_plugins.stats import Counts
from rerank_plugins.tokenization.pair_encoder import MAX_QUERY_SHARE, PairEncoder

__all__ = ["MAX_QUEUED_PAIRS", "CrossEncoderScorer"]

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
        """Combine an encoder and an engine.

        ``token_budget`` None takes the engine's own. ``longest_row``: most tokens that the model reads, padding
        included; None takes the encoder's ``max_length``. ``max_queued_pairs`` as in `load_reranker`.
        """
        self.encoder = encoder
        self.engine = engine
        self._counts = Counts()
        self._cache = cache
        worker = BatchWorker(
            encoder,
            engine,
            self._counts,
            pad_token_id=pad_token_id,
            token_budget=engine.token_budget if token_budget is None else token_budget,
            longest_row=encoder.max_length if longest_row is None else longest_row,
            cache=cache,
        )
        self._scheduler = Scheduler(worker, self._counts, max_queued_pairs=max_queued_pairs)
        # The scheduler's thread holds the scheduler and not this object: without a reference to it the thread ends.
        finalize(self, self._scheduler.stop).atexit = False

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
        token_cache: int = 0,
        max_windows: int = 1,
        max_queued_pairs: int = MAX_QUEUED_PAIRS,
        score_cache: int = 0,
        score_cache_folder: str | None = None,
    ) -> CrossEncoderScorer:
        """Load a model folder. ``max_length`` is lowered to what the model can read.

        ``max_windows`` is 1 where long documents are truncated; the rest is as in `load_reranker`.
        """
        model_folder.check_cross_encoder(folder)
        longest = model_folder.longest_input(folder)
        length = max_length if longest is None else min(max_length, longest)
        encoder = PairEncoder.from_folder(
            folder, length, max_query_share=max_query_share, token_cache=token_cache, max_windows=max_windows
        )
        loaded = load_engine(folder, engine=engine, precision=precision, device=device, threads=threads)
        cache = None
        if score_cache:
            scope = f"{identity(folder, loaded)} {encoder.max_length} {encoder.max_query_tokens} {max_windows}"
            scope += json.dumps(encoder.settings)
            cache = ScoreCache(scope, score_cache, None if score_cache_folder is None else Path(score_cache_folder))
        return cls(
            encoder,
            loaded,
            pad_token_id=model_folder.pad_token_id(folder),
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
        """The most padded tokens of a batch: as given, or less since memory ran out."""
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
        scored = self.submit(check_pairs(pairs)).result()
        return [pair for pair in scored if pair is not None]  # without a deadline none is missing

    def counts(self) -> dict[str, Any]:
        """Fields of `Stats` with their present values."""
        return self._counts.plus({"waiting_pairs": self._scheduler.waiting_pairs, "token_budget": self.token_budget})

    def close(self) -> None:
        """End the thread that computes. Calls that wait fail with `ClosedError`, and so do later ones."""
        self._scheduler.close()
        if self._cache is not None:
            self._cache.close()
