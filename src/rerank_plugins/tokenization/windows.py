"""Overlapping windows over a passage that is longer than one row."""

from __future__ import annotations

__all__ = ["WINDOW_OVERLAP", "list_window_starts"]

WINDOW_OVERLAP = 0.25
"""Share of a window that the next one repeats, so that a sentence on the border is read whole. Chosen, not measured."""


def list_window_starts(length: int, window: int, max_windows: int) -> tuple[list[int], bool]:
    """Where to start the windows over a passage, and whether they reach its end.

    Args:
        length: Tokens of the passage, more than ``window``.
        window: Tokens of a window.
        max_windows: At least 2. What they do not reach is the passage's end.
    """
    overlap = int(WINDOW_OVERLAP * window)
    count = min(max_windows, -(-(length - overlap) // (window - overlap)))
    end = min(length, count * (window - overlap) + overlap)
    # Spread evenly: the last window ends where the text does and overlaps no more than the others.
    return [number * (end - window) // (count - 1) for number in range(count)], end == length
