"""Work that a cancel must not tear in half: a thread still using a descriptor, a cleanup half done."""

import asyncio
from collections.abc import Coroutine
from typing import TypeVar

T = TypeVar("T")


async def finish(work: Coroutine[object, object, T]) -> T:
    """Await `work` to its end even when cancelled meanwhile; only then let the cancel through.

    For short work alone: a cancel waits as long as `work` takes. If both happen, an error of `work` is the
    one raised.
    """
    task = asyncio.create_task(work)  # owned here: this function never returns before it ended
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])  # unlike awaiting it, a cancel of this wait does not reach it
        except asyncio.CancelledError as exc:
            cancelled = exc
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result
