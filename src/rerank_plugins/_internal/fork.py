"""What `os.fork` needs: locks that the child finds free, and objects that prepare for it.

A fork copies only the thread that calls it. A lock that another thread holds at that moment is never released in the
child; a computation of another thread never ends there.
"""

from __future__ import annotations

import os
import threading
from typing import Protocol
from weakref import WeakSet

__all__ = ["ForkParticipant", "make_lock", "register"]


class ForkParticipant(Protocol):
    """An object that acts before and after a fork of the process."""

    fork_order: int
    """Participants with a lower number prepare first and resume last."""

    def before_fork(self) -> None:
        """Finish or pause what a fork would cut off."""
        ...

    def after_fork_in_parent(self) -> None:
        """Resume."""
        ...

    def after_fork_in_child(self) -> None:
        """Drop what belongs to threads of the parent."""
        ...


_participants: WeakSet[ForkParticipant] = WeakSet()
_locks: WeakSet[threading.Lock] = WeakSet()
# Held during a fork, so that nothing is registered meanwhile and one thread forks at a time.
_registering = threading.Lock()
_prepared: list[ForkParticipant] = []


def make_lock() -> threading.Lock:
    """A lock that is free in a forked child, whichever thread of the parent held it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def register(participant: ForkParticipant) -> None:
    """Call the participant's methods at every fork, for as long as it exists."""
    with _registering:
        _participants.add(participant)


def _before() -> None:
    _registering.acquire()
    _prepared.extend(sorted(_participants, key=lambda one: (one.fork_order, id(one))))
    for participant in _prepared:
        participant.before_fork()


def _after_in_parent() -> None:
    while _prepared:
        _prepared.pop().after_fork_in_parent()
    _registering.release()


def _after_in_child() -> None:
    for lock in list(_locks):
        lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library's modules do
    while _prepared:
        _prepared.pop().after_fork_in_child()
    _registering.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child)
