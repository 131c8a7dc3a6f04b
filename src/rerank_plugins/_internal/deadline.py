"""Deadlines of calls."""

from __future__ import annotations

import math
import threading
import time
from numbers import Real
from typing import Literal, NamedTuple

from rerank_plugins.errors import InvalidInputError

OnDeadline = Literal["partial", "raise"]
"""What a call does at its deadline: return the scores there are, or raise `DeadlineExceededError`."""

# Locks cannot wait longer than TIMEOUT_MAX.
_LONGEST = threading.TIMEOUT_MAX / 2


class Deadline(NamedTuple):
    """The time at which a call has to return, and what it does then."""

    seconds: float
    """The number of seconds that the caller gave."""
    at: float
    """The end on the clock of ``time.monotonic``."""
    partial: bool
    """Whether the call returns the scores there are; it raises otherwise."""

    def left(self) -> float:
        """Seconds that are left; 0 when the deadline has passed."""
        return max(0.0, self.at - time.monotonic())


def deadline_from_now(seconds: float | None, on_deadline: OnDeadline) -> Deadline | None:
    """The deadline of a call that begins now; None where it has none."""
    if on_deadline not in ("partial", "raise"):
        raise InvalidInputError(f"on_deadline must be 'partial' or 'raise', got {on_deadline!r}.")
    seconds = check_deadline(seconds)
    if seconds is None:
        return None
    return Deadline(seconds, time.monotonic() + min(seconds, _LONGEST), on_deadline == "partial")


def check_deadline(seconds: object) -> float | None:
    """``seconds``; raises `InvalidInputError` unless it is None or a number above 0."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf:
        raise InvalidInputError(
            f"deadline must be a number of seconds above 0, or None for no deadline, got {seconds!r}."
        )
    return float(seconds)
