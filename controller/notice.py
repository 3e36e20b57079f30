"""Telling the rest of this controller what a committed transaction has changed."""

from collections.abc import Callable, Sequence

from controller.bulletin import Bulletin
from controller.core.task import Task
from controller.store import Changed


class Notices:
    """Who hears of changes: those who wait for an operation, and the dispatcher for the tasks that may go on
    now."""

    def __init__(self, bulletin: Bulletin) -> None:
        self._bulletin = bulletin
        self._wake: Callable[[Sequence[int]], None] = lambda task_ids: None
        self._stop: Callable[[Sequence[Task]], None] = lambda dropped: None

    def wake_by(self, wake: Callable[[Sequence[int]], None]) -> None:
        """From now on, tasks that may go on are told to `wake`."""
        self._wake = wake

    def stop_by(self, stop: Callable[[Sequence[Task]], None]) -> None:
        """From now on, tasks whose attempts nobody waits for any more are told to `stop`."""
        self._stop = stop

    def tell(self, changed: Changed) -> None:
        """Call it after the commit."""
        for kind, operation_id in changed.operations:
            self._bulletin.publish(kind, operation_id)
        if changed.woken:
            self._wake(changed.woken)
        if changed.dropped:
            self._stop(changed.dropped)
