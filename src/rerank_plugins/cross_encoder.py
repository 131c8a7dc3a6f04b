"""Encoder, batches and engine put together: pairs of texts in, logits out, in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from rerank_plugins.batching import rounded_up, token_budget_batches
from rerank_plugins.engines import Engine, EngineName, Precision, load_engine, model_folder
from rerank_plugins.pair_encoder import MAX_QUERY_SHARE, EncodedPair, PairEncoder
from rerank_plugins.scorer import Pair, Scale, ScoredPair

# What is encoded at a time: few enough characters to bound memory (every passage is tokenized whole
# before it is cut), enough pairs for the length sort.
_CHUNK_PAIRS, _CHUNK_CHARACTERS = 4096, 2_000_000


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
    ) -> None:
        """Put an encoder and an engine together.

        ``token_budget`` None takes the engine's own. ``longest_row``: most tokens that the model reads, padding
        included; None takes the encoder's ``max_length``.
        """
        self.encoder = encoder
        self.engine = engine
        self.token_budget = engine.token_budget if token_budget is None else token_budget
        self._pad_token_id = pad_token_id
        self._longest_row = encoder.max_length if longest_row is None else longest_row

    @classmethod
    def from_folder(
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
    ) -> CrossEncoderScorer:
        """Load a model folder. ``max_length`` is lowered to what the model can read; the rest as in `load_reranker`."""
        longest = model_folder.longest_input(folder)
        length = max_length if longest is None else min(max_length, longest)
        encoder = PairEncoder.from_folder(folder, length, max_query_share=max_query_share, token_cache=token_cache)
        loaded = load_engine(folder, engine=engine, precision=precision, device=device, threads=threads)
        return cls(encoder, loaded, pad_token_id=model_folder.pad_token_id(folder), longest_row=longest)

    @property
    def max_length(self) -> int:
        """Most tokens of a pair, special tokens included."""
        return self.encoder.max_length

    def score(self, pairs: list[Pair], /) -> list[float]:
        """One logit a pair, in order."""
        return [scored.score for scored in self.score_detailed(pairs)]

    def score_detailed(self, pairs: list[Pair], /) -> list[ScoredPair]:
        """One logit a pair, in order, and whether the pair was cut to ``max_length``."""
        return [scored for chunk in _chunks(pairs) for scored in self._chunk(chunk)]

    def _chunk(self, pairs: list[Pair]) -> Iterator[ScoredPair]:
        rows = self.encoder.encode(pairs)
        logits = np.empty(len(rows), dtype=np.float32)
        multiple, most = self.engine.length_multiple, self._longest_row
        widths = [rounded_up(len(row.input_ids), multiple, most) for row in rows]
        for batch in token_budget_batches(widths, self.token_budget):
            # The first of a batch is its longest.
            logits[batch] = self._logits([rows[number] for number in batch], widths[batch[0]])
        return (ScoredPair(float(logit), row.truncated) for logit, row in zip(logits, rows, strict=True))

    def _logits(self, rows: list[EncodedPair], width: int) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
        shape = (len(rows), width)
        input_ids = np.full(shape, self._pad_token_id, dtype=np.int64)
        attention_mask = np.zeros(shape, dtype=np.int64)
        token_type_ids = np.zeros(shape, dtype=np.int64)
        for number, row in enumerate(rows):
            length = len(row.input_ids)
            input_ids[number, :length] = row.input_ids
            attention_mask[number, :length] = 1
            token_type_ids[number, :length] = row.token_type_ids
        return self.engine.logits(input_ids, attention_mask, token_type_ids)


def _chunks(pairs: list[Pair]) -> Iterator[list[Pair]]:
    chunk: list[Pair] = []
    characters = 0
    for pair in pairs:
        chunk.append(pair)
        characters += len(pair[1])
        if len(chunk) == _CHUNK_PAIRS or characters >= _CHUNK_CHARACTERS:
            yield chunk
            chunk, characters = [], 0
    if chunk:
        yield chunk
