"""Task groups that leave the task that waited in them as they found it."""

import asyncio
import sys
from types import TracebackType


class TaskGroup(asyncio.TaskGroup):
    """asyncio's, without a fault of Python before 3.13 (python/cpython#116720): a task whose group has failed
    counted as being cancelled ever after.

    With Python before 3.11.3 that is fatal: the next timeout of such a task ends it, without a word
    (python/cpython#102780)."""

    async def __aexit__(
        self,
        et: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        waiting = asyncio.current_task()
        counted_out = self._asked_to_stop  # asyncio's own does that, for what was asked until now
        try:
            await super().__aexit__(et, exc, tb)
        finally:
            if sys.version_info < (3, 13) and self._asked_to_stop and not counted_out and waiting is not None:
                waiting.uncancel()

    @property
    def _asked_to_stop(self) -> bool:
        """Whether the group has cancelled the task that waits in it, because one of its own failed."""
        return bool(getattr(self, "_parent_cancel_requested", False))
