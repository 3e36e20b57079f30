"""Waiting for real processes, which tell nobody when they are ready."""

import asyncio
from collections.abc import Callable

from shared.clock import SystemClock


async def until(condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Return as soon as `condition()` is true; TimeoutError if it is not within `within_s`."""
    clock = SystemClock()
    async with asyncio.timeout(within_s):
        while not condition():
            await clock.sleep(0.01)
