"""One implementation for synchronous and asynchronous callers, and blocking work beside an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine that blocks where others would suspend; needs no event loop."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        value: T = end.value
        return value
    coroutine.close()
    raise RuntimeError("The coroutine suspended, expected one that blocks.")


async def on_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, also for functions that may raise StopIteration."""

    def guarded() -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration as exc:
            # A future cannot carry it: its caller would wait for ever.
            raise RuntimeError(f"StopIteration: {exc}") from exc

    return await asyncio.to_thread(guarded)
