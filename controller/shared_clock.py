"""The time that all controllers on one database agree on: the database's own (DESIGN «Storage»).

A deadline that one of them stored is judged by another: with clocks of their own, a task would end early or
late by as much as they differ."""

from datetime import datetime, timedelta
from typing import Final, Protocol

from controller.core.refusals import StoreUnavailableError
from shared.clock import Clock
from shared.logs import get_log

EVERY_S: Final = 30.0
TOLERATED: Final = timedelta(seconds=0.2)
"""Less is the way to the server and back; following it would make the time tremble."""
TOLD: Final = timedelta(seconds=5)

log = get_log(__name__)


class TimeSource(Protocol):
    """The database."""

    async def skew(self) -> timedelta | None:
        """How far its clock is ahead of ours, as corrected by now; None if it has none of its own."""
        ...


class SharedClock:
    """A host's clock, corrected to the database's. SQLite has none: nothing is corrected there."""

    def __init__(self, own: Clock) -> None:
        self._own, self._ahead = own, timedelta(0)

    def now(self) -> datetime:
        return self._own.now() + self._ahead

    def monotonic(self) -> float:
        return self._own.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self._own.sleep(seconds)

    async def follow(self, source: TimeSource) -> bool:
        """Correct it once; False where there is nothing to follow. Raises StoreUnavailableError."""
        skew = await source.skew()
        if skew is None:
            return False
        if abs(skew) > TOLERATED:
            self._ahead += skew
        if abs(skew) > TOLD:
            log.warning("this host's clock differs from the database's", seconds=skew.total_seconds())
        return True

    async def run(self, source: TimeSource) -> None:
        """Follow until cancelled, or until there is nothing to follow."""
        following = True
        while following:
            await self._own.sleep(EVERY_S)
            try:
                following = await self.follow(source)
            except StoreUnavailableError as exc:
                log.warning("the database's time was not told", reason=str(exc))
