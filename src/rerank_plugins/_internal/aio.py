"""Blocking work beside an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def on_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, for calls that run other people's code as well."""

    def guarded() -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration as exc:
            # A future cannot carry it: whoever awaits would wait for ever.
            raise RuntimeError(f"StopIteration: {exc}") from exc

    return await asyncio.to_thread(guarded)
