"""Which rows are computed together: batches of similar length under a token budget. Pure."""

from __future__ import annotations

from collections.abc import Sequence

MAX_PADDING = 0.1
"""Largest share of a batch's slots that may be padding."""


def token_budget_batches(lengths: Sequence[int], budget: int, *, max_padding: float = MAX_PADDING) -> list[list[int]]:
    """Group row positions into batches, longest rows first.

    Args:
        lengths: Tokens of each row, each at least 1.
        budget: Most slots (rows x longest row) a batch may have. A single row longer than the
            budget is a batch of its own.
        max_padding: A batch is closed before its share of padded slots would exceed this.

    Returns:
        Every position exactly once. Rows of equal length keep their order, so the same input
        always gives the same batches.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    batches: list[list[int]] = []
    batch: list[int] = []
    tokens = 0
    for row in order:
        longest = lengths[batch[0]] if batch else lengths[row]
        slots = longest * (len(batch) + 1)
        if batch and (slots > budget or slots - tokens - lengths[row] > max_padding * slots):
            batches.append(batch)
            batch, tokens = [], 0
        batch.append(row)
        tokens += lengths[row]
    if batch:
        batches.append(batch)
    return batches


def rounded_up(length: int, multiple: int, most: int) -> int:
    """The next multiple at or above ``length``; ``most`` where that lies between."""
    return max(length, min(-(-length // multiple) * multiple, most))
