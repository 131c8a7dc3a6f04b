"""Which rows are computed together: batches of similar length under a token budget. Pure."""

from __future__ import annotations

import operator
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Of the batches of an engine; `Engine` says what each is."""

    token_budget: int
    shared_slots: int
    max_padding: float
    few_shapes: bool


class Filling:
    """What a batch holds so far, and whether one row more fits. The longest row comes first."""

    def __init__(self, budget: int, *, max_padding: float, few_shapes: bool = False) -> None:
        """An empty batch.

        Args:
            budget: Most slots (rows x longest row) it may have. A single row longer than that is a batch of its own.
            max_padding: Largest share of its slots that may be padding.
            few_shapes: Whether it is to have 1, 2, 3, 4, 6, 8, 12, ... rows; see `surplus`.
        """
        self.budget = budget
        self._max_padding = max_padding
        self._few_shapes = few_shapes
        self.width = 0
        self.rows = 0
        self.tokens = 0

    @property
    def slots(self) -> int:
        """Rows times the longest."""
        return self.rows * self.width

    @property
    def surplus(self) -> int:
        """Rows, of those taken last, that belong into a later batch: so that this one has 1, 2, 3, 4, 6, 8, 12, ..."""
        if not self._few_shapes or not self.rows:
            return 0
        power = 1 << self.rows.bit_length() - 1
        between = power + power // 2
        return self.rows - (between if self.rows >= between else power)

    def take(self, lengths: Sequence[int]) -> slice:
        """Fill up from rows that are sorted, longest first; returns which of them were taken.

        Begins at the first that is no longer than what is held, and ends before the first that does not fit. An empty
        batch takes its first row however long it is.
        """
        start = bisect_left(lengths, -self.width, key=operator.neg) if self.rows else 0
        end = start
        while end < len(lengths) and self._takes(lengths[end]):
            self.width = max(self.width, lengths[end])
            self.rows += 1
            self.tokens += lengths[end]
            end += 1
        return slice(start, end)

    def _takes(self, length: int) -> bool:
        if not self.rows:
            return True
        slots = self.width * (self.rows + 1)
        return slots <= self.budget and slots - self.tokens - length <= self._max_padding * slots


# Steps up to the length from which on they double: a row's padding is less than a sixteenth of it.
_STEPS = 32


def rounded_up(length: int, multiple: int, most: int) -> int:
    """The next multiple at or above ``length``; ``most`` where that lies between.

    Where ``multiple`` is more than 1, long rows are rounded to twice, four times, ... of it: beyond 32 multiples in
    steps of 2, beyond 64 in steps of 4. So a model that reads 8,192 tokens meets 96 widths and not 512.
    """
    step = multiple
    while multiple > 1 and step * _STEPS < length:
        step *= 2
    return max(length, min(-(-length // step) * step, most))
