"""One implementation of a call for synchronous and asynchronous callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, ParamSpec, Protocol, TypeVar

__all__ = ["BlockingCall", "Step", "Steps", "arun_steps", "on_thread", "run_steps"]

P = ParamSpec("P")
T = TypeVar("T")


class Step(Protocol):
    """Something to wait for, in both ways."""

    def run(self) -> Any:
        """Block until the result is there."""
        ...

    async def arun(self) -> Any:
        """`run` without blocking the event loop."""
        ...


Steps = Generator[Step, Any, T]
"""A generator that yields what it waits for, is sent the result of each wait, and returns its own."""


@dataclass(frozen=True, slots=True)
class BlockingCall:
    """A function that takes long; asynchronous callers run it on a thread."""

    function: Callable[[], Any]

    def run(self) -> Any:
        """Call the function."""
        return self.function()

    async def arun(self) -> Any:
        """Call the function on a thread."""
        return await on_thread(self.function)


def run_steps(steps: Steps[T]) -> T:
    """Run a generator to its end, blocking at each step."""
    try:
        step = next(steps)
        while True:
            try:
                result = step.run()
            except BaseException as exc:  # noqa: BLE001 - the generator handles or raises it
                step = steps.throw(exc)
            else:
                step = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def arun_steps(steps: Steps[T]) -> T:
    """`run_steps` without blocking the event loop."""
    try:
        step = next(steps)
        while True:
            try:
                result = await step.arun()
            except BaseException as exc:  # noqa: BLE001 - the generator handles or raises it
                step = steps.throw(exc)
            else:
                step = steps.send(result)
    except StopIteration as end:
        value: T = end.value
        return value


async def on_thread(call: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """`asyncio.to_thread`, also for functions that may raise StopIteration."""

    def guarded() -> T:
        try:
            return call(*args, **kwargs)
        except StopIteration as exc:
            # A future cannot carry it: its caller would wait for ever.
            raise RuntimeError(f"StopIteration: {exc}") from exc

    return await asyncio.to_thread(guarded)
