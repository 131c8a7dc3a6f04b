"""How long a call may take."""

from __future__ import annotations

import math
import threading
import time
from numbers import Real
from typing import Literal, NamedTuple

from rerank_plugins.errors import InvalidInputError

OnDeadline = Literal["partial", "raise"]
"""What a call does whose time is up: answer with the scores there are, or raise `DeadlineExceededError`."""

# What locks can wait for, and more than anybody will.
_LONGEST = threading.TIMEOUT_MAX / 2


class Deadline(NamedTuple):
    """A moment, and what happens at it."""

    seconds: float
    """As it was given: from the beginning of the call."""
    at: float
    """On the clock of ``time.monotonic``."""
    partial: bool

    def left(self) -> float:
        """Seconds until it; 0 when it has passed."""
        return max(0.0, self.at - time.monotonic())


def deadline_from_now(seconds: float | None, on_deadline: OnDeadline) -> Deadline | None:
    """The deadline of a call that begins now; None where it has none."""
    check_deadline(seconds, on_deadline)
    if seconds is None:
        return None
    return Deadline(float(seconds), time.monotonic() + min(float(seconds), _LONGEST), on_deadline == "partial")


def check_deadline(seconds: object, on_deadline: object) -> None:
    """Raise `InvalidInputError` unless these are seconds above 0, or None, and an `OnDeadline`."""
    if on_deadline not in ("partial", "raise"):
        raise InvalidInputError(f"on_deadline must be 'partial' or 'raise', got {on_deadline!r}.")
    if seconds is None:
        return
    if isinstance(seconds, bool) or not isinstance(seconds, Real) or not 0 < float(seconds) < math.inf:
        raise InvalidInputError(
            f"deadline must be a number of seconds above 0, or None for no deadline, got {seconds!r}."
        )
