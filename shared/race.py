"""Work against the clock and against events: the first to end wins, the others are gone when it returns."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from shared.tasks import TaskGroup

T = TypeVar("T")


async def race(work: Coroutine[Any, Any, T], *ends: Coroutine[Any, Any, Any]) -> T | None:
    """Return what `work` returned, None if one of `ends` came first and `work` could be cancelled in time.

    What `work` raises comes out in an ExceptionGroup. Safe to cancel: all of them are cancelled and
    awaited."""
    async with TaskGroup() as group:
        task = group.create_task(work)
        others = [group.create_task(end) for end in ends]
        await asyncio.wait([task, *others], return_when=asyncio.FIRST_COMPLETED)
        for one in (task, *others):
            one.cancel()
    return None if task.cancelled() else task.result()
