"""Removes old events, old history and credentials that nothing needs, now and then, a little at a time."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol, TypeVar

from controller.rounds import repeat
from shared.clock import Clock
from shared.logs import get_log

FIRST_AFTER_S: Final = 60.0
EVERY_S: Final = 3_600.0
PAUSE_S: Final = 0.1
"""Between two steps: whoever wants to write has its turn."""

log = get_log(__name__)

PlaceT = TypeVar("PlaceT", int, str)


class PruneStore(Protocol):
    """What can be removed. Each call looks at some rows from a place on, and returns how many it removed and
    where to go on, None at the end."""

    async def prune_events(self, before: datetime, after: int) -> tuple[int, int | None]: ...

    async def prune_history(self, before: datetime, after: str) -> tuple[int, str | None]: ...

    async def forget_queries(self) -> int:
        """The credentials in package URLs that nothing needs any more."""
        ...


@dataclass(frozen=True, slots=True)
class Retention:
    """How long events of ended operations and entries of the version history stay; None means for ever."""

    events: timedelta | None = None
    history: timedelta | None = None


class Pruner:
    """One for each controller; several may run, for what is gone is gone."""

    def __init__(self, store: PruneStore, retention: Retention, clock: Clock) -> None:
        self._store, self._retention, self._clock = store, retention, clock

    async def run(self) -> None:
        """Work until cancelled."""
        await repeat("pruning", self.prune, self._clock, every_s=EVERY_S, first_after_s=FIRST_AFTER_S)

    async def prune(self) -> None:
        """One round over all that is too old. Safe to cancel and to repeat."""
        now = self._clock.now()
        events = history = 0
        if self._retention.events is not None:
            events = await self._walk(self._store.prune_events, now - self._retention.events, 0)
        if self._retention.history is not None:
            history = await self._walk(self._store.prune_history, now - self._retention.history, "")
        queries = await self._store.forget_queries()
        if events or history or queries:
            log.info("old rows were removed", events=events, history=history, url_queries=queries)

    async def _walk(
        self,
        step: Callable[[datetime, PlaceT], Awaitable[tuple[int, PlaceT | None]]],
        before: datetime,
        start: PlaceT,
    ) -> int:
        removed, place = await step(before, start)
        while place is not None:
            await self._clock.sleep(PAUSE_S)
            more, place = await step(before, place)
            removed += more
        return removed
