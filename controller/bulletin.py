"""News of operations inside this process: writers publish, `?wait=` calls listen.

A notice is a hint that rows have changed, never the change itself: who hears one reads the store again,
and reads it from time to time without one (another controller may have moved the rows)."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from releasehand.model import OperationKind

Topic = tuple[OperationKind, str]


class Subscription:
    """One listener's ear. Notices that come while it looks away are kept, and count as one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    async def wait(self, timeout_s: float) -> bool:
        """Return True at the next notice, at once if one came since the last `wait`; False when the time is
        over.

        Safe to cancel: the notice stays."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True

    def notify(self) -> None:
        self._event.set()


class Bulletin:
    """Who listens to which operation. To be used on the event loop alone."""

    def __init__(self) -> None:
        self._listeners: dict[Topic, set[Subscription]] = {}
        self._closed = False

    @property
    def closed(self) -> bool:
        """True once the process is stopping: nobody should wait any more."""
        return self._closed

    def publish(self, kind: OperationKind, operation_id: str) -> None:
        """Tell that the operation's rows have changed; call it after the commit. Costs nothing without
        listeners."""
        for subscription in self._listeners.get((kind, operation_id), ()):
            subscription.notify()

    @contextmanager
    def subscribe(self, kind: OperationKind, operation_id: str) -> Iterator[Subscription]:
        """Listen until the block ends. Subscribe first and read the rows then: no change can fall between."""
        topic, subscription = (kind, operation_id), Subscription()
        self._listeners.setdefault(topic, set()).add(subscription)
        try:
            yield subscription
        finally:
            listeners = self._listeners[topic]
            listeners.discard(subscription)
            if not listeners:
                del self._listeners[topic]

    async def wait(self, kind: OperationKind, operation_id: str, timeout_s: float) -> bool:
        """Return True at the next notice from now on, False when the time is over; also True when closed
        meanwhile."""
        with self.subscribe(kind, operation_id) as subscription:
            return self._closed or await subscription.wait(timeout_s)

    def close(self) -> None:
        """Let everybody who waits go, for good. Safe to repeat."""
        self._closed = True
        for listeners in self._listeners.values():
            for subscription in listeners:
                subscription.notify()

    def __len__(self) -> int:
        """How many are listening."""
        return sum(len(listeners) for listeners in self._listeners.values())
