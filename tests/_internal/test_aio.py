from __future__ import annotations

import asyncio

import pytest

from rerank_plugins._internal.aio import on_thread, run_blocking


async def double(number: int) -> int:
    return 2 * number


def test_a_coroutine_that_does_not_suspend_needs_no_loop() -> None:
    """Its result is returned, and its error raised."""

    async def call(number: int) -> int:
        if number < 0:
            raise ValueError("negative")
        return await double(number) + 1

    assert run_blocking(call(3)) == 7
    with pytest.raises(ValueError, match="negative"):
        run_blocking(call(-1))


def test_a_coroutine_that_suspends_is_an_error() -> None:
    """It would need an event loop."""
    with pytest.raises(RuntimeError, match="suspended"):
        run_blocking(asyncio.sleep(0))


async def test_stop_iteration_on_a_thread_is_a_runtime_error() -> None:
    """A future cannot carry it."""

    def stops() -> None:
        raise StopIteration("end")

    with pytest.raises(RuntimeError, match="StopIteration: end"):
        await on_thread(stops)
