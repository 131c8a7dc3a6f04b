"""Test doubles for applications of this library: no model files, and the same scores on every machine.

    from rerank_plugins.testing import SlowEngine, toy_reranker

    reranker = toy_reranker(SlowEngine(seconds=0.5))
    assert reranker.rerank("query", documents, deadline=0.1)[-1].score is None

Everything but the model is the real code: tokenizer, batches, scheduler, ranking.
"""

from __future__ import annotations

import string
import time
from typing import Any, Literal

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, processors

from rerank_plugins._internal.loading_options import MAX_QUEUED_PAIRS, Precision
from rerank_plugins._internal.validation import check_pairs
from rerank_plugins.backends.base import Engine, Logits, Tokens
from rerank_plugins.errors import OutOfMemoryError
from rerank_plugins.reranker import Reranker
from rerank_plugins.scorers.base import Pair
from rerank_plugins.scorers.cross_encoder import CrossEncoderScorer
from rerank_plugins.tokenization.pair_encoder import PairEncoder

__all__ = [
    "POISON",
    "DyingEngine",
    "FailingEngine",
    "NaNEngine",
    "SlowEngine",
    "SmallMemoryEngine",
    "ToyEngine",
    "WordOverlap",
    "toy_reranker",
]

POISON = "☠"
"""A text that makes `FailingEngine`, `NaNEngine` and `DyingEngine` fail."""

_SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
_VOCABULARY = {token: number for number, token in enumerate((*_SPECIALS, POISON, *string.printable))}


class WordOverlap:
    """A scorer whose logit, from -4 (none) to 4 (all), is the share of the query's words that are in the passage."""

    scale: Literal["logit"] = "logit"

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair."""
        words = [(set(query.lower().split()), set(passage.lower().split())) for query, passage in check_pairs(pairs)]
        return [8 * len(query & passage) / max(1, len(query)) - 4 for query, passage in words]


class ToyEngine:
    """An engine whose logit is the mean over a row's tokens of a number in [-5, 5) that their ids give."""

    name: Literal["openvino"] = "openvino"
    precision: Precision = "fp32"
    device = "cpu"
    token_budget = 2048
    pad_to_multiple_of = 1
    few_shapes = False
    max_padding = 0.1
    shared_token_budget = 512

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        del token_type_ids
        numbers = (input_ids * 37 % 101 / 101 - 0.5) * 10 * attention_mask
        return np.asarray(numbers.sum(axis=1) / attention_mask.sum(axis=1), np.float32)


class _Wrapper:
    """An engine that wraps another, by default a `ToyEngine`."""

    def __init__(self, engine: Engine | None = None) -> None:
        self.engine: Engine = engine or ToyEngine()
        self.batches = 0
        """How many batches it was given."""

    def __getattr__(self, name: str) -> Any:
        if name == "engine":  # while a copy is being made
            raise AttributeError(name)
        return getattr(self.engine, name)  # name, precision, device, token_budget and the other numbers

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        self.batches += 1
        return self.engine.logits(input_ids, attention_mask, token_type_ids)


class SlowEngine(_Wrapper):
    """Sleeps before each batch: ``seconds``, and ``seconds_a_row`` for each of its rows."""

    def __init__(self, engine: Engine | None = None, *, seconds: float = 0.1, seconds_a_row: float = 0.0) -> None:
        super().__init__(engine)
        self._seconds = seconds
        self._seconds_a_row = seconds_a_row

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        time.sleep(self._seconds + self._seconds_a_row * len(input_ids))
        return super().logits(input_ids, attention_mask, token_type_ids)


class _Faulty(_Wrapper):
    """Fails at its ``at``-th batch, counted from 1, and at rows that hold `POISON`."""

    _error: type[BaseException] | None = None
    """What it raises; None gives NaN."""

    def __init__(self, engine: Engine | None = None, *, at: int | None = None) -> None:
        super().__init__(engine)
        self._at = at

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        result = super().logits(input_ids, attention_mask, token_type_ids)
        bad = (input_ids == _VOCABULARY[POISON]).any(axis=1) | (self.batches == self._at)
        if self._error is not None and bad.any():
            raise self._error(f"batch {self.batches} fails on purpose")
        return np.where(bad, np.float32("nan"), result)


class FailingEngine(_Faulty):
    """Raises RuntimeError for its ``at``-th batch, counted from 1, and for batches in which a row holds `POISON`."""

    _error = RuntimeError


class NaNEngine(_Faulty):
    """Returns NaN for every row of its ``at``-th batch, counted from 1, and for rows that hold `POISON`."""


class DyingEngine(_Faulty):
    """Ends the worker thread, with SystemExit, at its ``at``-th batch, counted from 1, and at `POISON`."""

    _error = SystemExit


class SmallMemoryEngine(_Wrapper):
    """Runs out of memory where a batch has more than ``padded_tokens`` (rows x longest row)."""

    def __init__(self, engine: Engine | None = None, *, padded_tokens: int) -> None:
        super().__init__(engine)
        self._padded_tokens = padded_tokens

    def logits(self, input_ids: Tokens, attention_mask: Tokens, token_type_ids: Tokens | None) -> Logits:
        """See `Engine.logits`."""
        if input_ids.size > self._padded_tokens:
            raise OutOfMemoryError(f"{input_ids.size} padded tokens do not fit into {self._padded_tokens}.")
        return super().logits(input_ids, attention_mask, token_type_ids)


def toy_reranker(
    engine: Any = None,
    *,
    max_length: int = 512,
    max_windows: int = 1,
    token_budget: int | None = None,
    max_queued_pairs: int = MAX_QUEUED_PAIRS,
) -> Reranker:
    """A reranker with an engine of this module, or any other `Engine`; by default a `ToyEngine`.

    Its tokens are characters, and 3 more for each pair. ``token_budget`` None takes the engine's.
    """
    tokenizer = Tokenizer(models.WordLevel(_VOCABULARY, unk_token="[UNK]"))  # noqa: S106 - no password
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(name, _VOCABULARY[name]) for name in ("[CLS]", "[SEP]")],
    )
    encoder = PairEncoder(tokenizer, max_length, max_windows=max_windows)
    return Reranker(
        CrossEncoderScorer(encoder, engine or ToyEngine(), token_budget=token_budget, max_queued_pairs=max_queued_pairs)
    )
