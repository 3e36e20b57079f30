"""Waiting for real processes, which tell nobody when they are ready."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from shared.clock import SystemClock

T = TypeVar("T")


async def until(condition: Callable[[], object], *, within_s: float = 15.0) -> None:
    """Return as soon as `condition()` is true; TimeoutError if it is not within `within_s`."""
    clock = SystemClock()
    async with asyncio.timeout(within_s):
        while not condition():
            await clock.sleep(0.01)


async def until_told(
    ask: Callable[[], Awaitable[T]], right: Callable[[T], object], *, within_s: float = 15.0
) -> T:
    """Ask until an answer is right and return it; TimeoutError if none is within `within_s`."""
    clock = SystemClock()
    async with asyncio.timeout(within_s):
        while not right(answer := await ask()):
            await clock.sleep(0.02)
    return answer
