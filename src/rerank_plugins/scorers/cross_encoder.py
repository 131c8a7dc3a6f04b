"""Scores pairs of texts with a cross-encoder: tokenizer, queue and engine together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Self
from weakref import finalize

from rerank_plugins._internal.deadline import Deadline
from rerank_plugins._internal.loading_options import MAX_QUEUED_PAIRS, LoadingOptions
from rerank_plugins._internal.validation import check_pairs
from rerank_plugins.backends.base import Engine
from rerank_plugins.backends.load import fingerprint_model, load_engine
from rerank_plugins.hub.config import find_pad_token_id, read_max_input_length
from rerank_plugins.hub.head import check_reranker
from rerank_plugins.hub.known_rerankers import find_known_reranker
from rerank_plugins.inference.request import ScoringRequest
from rerank_plugins.inference.scheduler import Scheduler
from rerank_plugins.inference.score_cache import ScoreCache
from rerank_plugins.inference.worker import BatchWorker
from rerank_plugins.scorers.base import Pair, Scale, ScoredPair
from rerank_plugins.stats import Counts
from rerank_plugins.tokenization.pair_encoder import PairEncoder

__all__ = ["CrossEncoderScorer"]


class CrossEncoderScorer:
    """Scores pairs with a cross-encoder. Safe to share between threads.

    Scores are raw logits. A pair's logit does not depend on the other pairs of the call: within 1e-4 in fp32.
    """

    scale: Scale = "logit"
    temperature: float = 1.0

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
        self._worker = BatchWorker(
            encoder,
            engine,
            self._counts,
            pad_token_id=pad_token_id,
            token_budget=engine.token_budget if token_budget is None else token_budget,
            longest_row=encoder.max_length if longest_row is None else longest_row,
            cache=cache,
        )
        self._scheduler = Scheduler(self._worker, self._counts, max_queued_pairs=max_queued_pairs)
        # The scheduler's thread holds the scheduler and not this object: without a reference to it the thread ends.
        finalize(self, self._scheduler.stop).atexit = False

    @classmethod
    def from_folder(cls, folder: str | Path, **loading: Any) -> Self:
        """Load a model folder; ``loading`` are options of `load_reranker`."""
        return cls.from_options(Path(folder), LoadingOptions(folder, **loading))

    @classmethod
    def from_options(cls, folder: Path, options: LoadingOptions) -> Self:
        """Load the model in ``folder``. ``max_length`` is lowered to what the model can read."""
        check_reranker(folder, options.label)
        longest = read_max_input_length(folder)
        encoder = PairEncoder.from_folder(
            folder,
            options.max_length if longest is None else min(options.max_length, longest),
            max_query_share=options.max_query_share,
            max_windows=options.windows,
            instruction=options.instruction,
        )
        engine = load_engine(
            folder,
            engine=options.engine,
            precision=options.precision,
            device=options.device,
            threads=options.threads,
            label=options.label,
        )
        cache = None
        if options.score_cache:
            lengths = f"{encoder.max_length} {encoder.max_query_tokens} {options.windows}"
            label = "" if options.label is None else f" label {options.label} "
            scope = f"{fingerprint_model(folder, engine)} {lengths}{label}{json.dumps(encoder.settings)}"
            cache = ScoreCache(scope, options.score_cache, options.score_cache_folder)
        scorer = cls(
            encoder,
            engine,
            pad_token_id=find_pad_token_id(folder),
            longest_row=longest,
            max_queued_pairs=options.max_queued_pairs,
            cache=cache,
        )
        known = find_known_reranker(folder)
        scorer.temperature = 1.0 if known is None else known.temperature
        return scorer

    @property
    def max_length(self) -> int:
        """Most tokens of a pair, special tokens included."""
        return self.encoder.max_length

    @property
    def token_budget(self) -> int:
        """The most padded tokens of a batch: as given, or less since memory ran out."""
        return self._worker.token_budget

    def submit(self, pairs: list[Pair], /, *, deadline: Deadline | None = None) -> ScoringRequest:
        """Have pairs scored, together with those of other callers; returns at once.

        Raises `OverloadedError` if too many pairs wait already, `ClosedError` after `close`.
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
