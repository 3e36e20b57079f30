"""The one way to the time. Cores take `now` as a value; shells take a Clock."""

import asyncio
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time as the daemons see it."""

    def now(self) -> datetime:
        """The wall clock, aware and in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back and that go on while the host sleeps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; safe to cancel."""
        ...


class SystemClock:
    """The host's own clock. `monotonic` is CLOCK_BOOTTIME: a suspended host does not gain budget."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
