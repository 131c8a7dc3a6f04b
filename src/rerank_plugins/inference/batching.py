"""Which rows are computed together: batches of similar length under a token budget."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rerank_plugins.tokenization.pair_encoder import EncodedPair


class BatchBuilder:
    """Adds rows to a batch while they fit. The longest row comes first."""

    def __init__(self, budget: int, *, max_padding: float) -> None:
        """``budget``: the most padded tokens (rows x longest row); a single longer row is a batch of its own."""
        self.budget = budget
        self._max_padding = max_padding
        self.width = 0
        self.rows = 0
        self.tokens = 0

    @property
    def padded_tokens(self) -> int:
        """Rows times the longest row."""
        return self.rows * self.width

    @property
    def surplus(self) -> int:
        """How many of the last rows to leave for a later batch, so that this one has 1, 2, 3, 4, 6, 8, 12, ... rows."""
        power = 1 << self.rows.bit_length() - 1
        between = power + power // 2
        return self.rows - (between if self.rows >= between else power)

    def take(self, lengths: Sequence[int]) -> slice:
        """Add rows whose lengths are sorted, longest first; returns which of them were added.

        They begin at the first that is no longer than the batch is wide, and end before the first that does not fit. An
        empty batch takes its first row however long it is.
        """
        start = bisect_left(lengths, -self.width, key=operator.neg) if self.rows else 0
        end = start
        for length in lengths[start:]:
            width, tokens = max(self.width, length), self.tokens + length
            padded = width * (self.rows + 1)
            if self.rows and (padded > self.budget or padded - tokens > self._max_padding * padded):
                break
            self.width, self.tokens = width, tokens
            self.rows += 1
            end += 1
        return slice(start, end)


# From this many multiples on, lengths are rounded to larger ones: a row's padding is less than a sixteenth of it.
_STEPS = 32


def round_up(length: int, multiple: int, most: int) -> int:
    """The next multiple at or above ``length``, but no more than ``most`` unless ``length`` is.

    Where ``multiple`` is more than 1, long rows are rounded to twice, four times, ... of it: beyond 32 multiples in
    steps of 2, beyond 64 in steps of 4. So a model that reads 8,192 tokens gets 96 widths and not 512.
    """
    step = multiple
    while multiple > 1 and step * _STEPS < length:
        step *= 2
    return max(length, min(-(-length // step) * step, most))


def pad_rows(
    rows: Sequence[EncodedPair], width: int, pad_token_id: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Input ids, attention mask and token type ids of rows that are no longer than ``width``."""
    shape = (len(rows), width)
    input_ids = np.full(shape, pad_token_id, dtype=np.int64)
    attention_mask = np.zeros(shape, dtype=np.int64)
    token_type_ids = np.zeros(shape, dtype=np.int64)
    for number, row in enumerate(rows):
        length = len(row.input_ids)
        input_ids[number, :length] = row.input_ids
        attention_mask[number, :length] = 1
        token_type_ids[number, :length] = row.token_type_ids
    return input_ids, attention_mask, token_type_ids
