"""One download for all who want the same package at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from agent.download.package import Download
from agent.finish import finish

Progress = Callable[[int, int | None], None]
"""Gets bytes done and, if the origin told it, bytes in all. Called often: be quick, do not raise. Bytes done
go back to 0 when the origin made the download begin again."""


class Flight:
    """Begins at once, and ends with its work, or when the last one who waits for it was cancelled."""

    def __init__(
        self,
        work: Callable[[Progress], Coroutine[Any, Any, Download]],
        *,
        lend: Callable[[Download], Download],
        landed: Callable[[], None],
    ) -> None:
        """`lend` makes a package for each who waits; `landed` is called once, when the work has ended and
        nobody waits any more."""
        self.closing = False
        """Nobody may join any more; `land` returns when it is over."""
        self._lend, self._landed = lend, landed
        self._over = asyncio.Event()
        self._listeners: dict[object, Progress] = {}
        self._shown: tuple[int, int | None] | None = None
        self._task = asyncio.create_task(work(self._show))  # owned here: no rider leaves before it ended

    async def ride(self, progress: Progress) -> Download:
        """Wait for the package; what is returned is the caller's own to close. Raises what the work raises.

        A cancel leaves the others waiting; that of the last one stops the work and returns after its end."""
        seat = object()
        self._listeners[seat] = progress
        if self._shown is not None:
            progress(*self._shown)
        try:
            await asyncio.wait([self._task])
            return self._lend(self._task.result())
        finally:
            del self._listeners[seat]
            if not self._listeners:
                self.closing = True
                await finish(self._land())

    async def land(self) -> None:
        """Return when the flight is over."""
        await self._over.wait()

    async def _land(self) -> None:
        if not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task])
        if not self._task.cancelled() and self._task.exception() is None:
            await asyncio.to_thread(self._task.result().close)
        self._landed()
        self._over.set()

    def _show(self, done: int, total: int | None) -> None:
        self._shown = (done, total)
        for listener in tuple(self._listeners.values()):
            listener(done, total)
