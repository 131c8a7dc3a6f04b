"""What `os.fork` needs: locks that the child finds free, and objects that prepare for it.

A fork copies only the thread that calls it. A lock that another thread holds at that moment is never released in the
child; a computation of another thread never ends there.
"""

from __future__ import annotations

import os
import threading
from functools import partial
from typing import Any
from weakref import WeakSet

_participants: WeakSet[Any] = WeakSet()
_locks: WeakSet[threading.Lock] = WeakSet()
# Held during a fork, so that nothing is registered meanwhile and one thread forks at a time.
_registering = threading.Lock()
_prepared: list[Any] = []


def make_lock() -> threading.Lock:
    """A lock that is free in a forked child, whichever thread of the parent held it."""
    lock = threading.Lock()
    _locks.add(lock)
    return lock


def register(participant: Any) -> None:
    """Call the object's ``before_fork()``, lowest ``fork_order`` first, and ``after_fork(in_child=...)`` at forks."""
    with _registering:
        _participants.add(participant)


def _before() -> None:
    _registering.acquire()
    for participant in sorted(_participants, key=lambda one: (one.fork_order, id(one))):
        participant.before_fork()
        _prepared.append(participant)


def _after(*, in_child: bool) -> None:
    for lock in list(_locks) if in_child else ():
        lock._at_fork_reinit()  # type: ignore[attr-defined] # noqa: SLF001 - as the standard library's modules do
    while _prepared:
        _prepared.pop().after_fork(in_child=in_child)
    _registering.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before, after_in_parent=partial(_after, in_child=False), after_in_child=partial(_after, in_child=True)
    )
