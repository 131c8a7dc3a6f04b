"""Whether something holds up the event loop, by a heartbeat beside it."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Coroutine
from typing import Any


def longest_gap(work: Coroutine[Any, Any, Any]) -> float:
    """Seconds between two beats of a 10 ms heartbeat while the work is done, at worst."""

    async def main() -> float:
        beats = [time.perf_counter()]
        task = asyncio.create_task(work)
        while not task.done():
            await asyncio.sleep(0.01)
            beats.append(time.perf_counter())
        await task
        return max(later - sooner for sooner, later in itertools.pairwise(beats))

    return asyncio.run(main())
