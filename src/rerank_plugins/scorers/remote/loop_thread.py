"""An event loop on a thread of its own, which callers of any thread and of any event loop share."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

_END_TIMEOUT = 5.0  # seconds; closing connections takes milliseconds


class LoopThread:
    """Runs coroutines. One for a server, not for a call: connections belong to one event loop."""

    def __init__(self, name: str, at_end: Callable[[], Awaitable[None]]) -> None:
        """Start the thread; ``at_end`` runs on it after the last coroutine."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=_run, args=(self._loop, at_end), name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._loop.close()
            raise

    def run(self, coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Have a coroutine run, in the context of the caller; not after `stop`."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def stop(self) -> None:
        """Cancel what runs, and end the thread."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        if self._thread is not threading.current_thread():  # the garbage collector may call it there
            self._thread.join(_END_TIMEOUT)


def _run(loop: asyncio.AbstractEventLoop, at_end: Callable[[], Awaitable[None]]) -> None:
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_cancel_all(at_end))
        loop.close()


async def _cancel_all(at_end: Callable[[], Awaitable[None]]) -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await at_end()
    await asyncio.get_running_loop().shutdown_asyncgens()
