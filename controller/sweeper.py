"""Ends what is past its time, finds agents that fell silent, and writes down what the links have seen."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Final, Protocol

from controller.core.refusals import StoreUnavailableError
from controller.live import Live, Seen
from controller.notice import Notices
from controller.rounds import repeat
from controller.store import Changed
from releasehand.model import Presence
from shared.clock import Clock
from shared.logs import get_log
from shared.session import OFFLINE_AFTER_S

EVERY_S: Final = 1.0

log = get_log(__name__)


class SweepStore(Protocol):
    """What the sweeper reads and writes."""

    async def expire(self) -> Changed:
        """End tasks past their `closes_at`, some at a time."""
        ...

    async def find_silent(self, before: datetime) -> dict[str, tuple[int, Presence]]: ...

    async def write_live_state(
        self,
        *,
        heartbeats: Mapping[str, datetime],
        presence: Mapping[str, tuple[int, Presence]],
        progress: Sequence[tuple[int, int, int, int]],
    ) -> None: ...


class Sweeper:
    """One for each controller; several may run, for every move is compare-and-set."""

    def __init__(self, store: SweepStore, live: Live, notices: Notices, clock: Clock) -> None:
        self._store, self._live, self._notices, self._clock = store, live, notices, clock
        self._started = clock.monotonic()

    async def run(self) -> None:
        """Work until cancelled."""
        await repeat("sweep", self.sweep, self._clock, every_s=EVERY_S)

    async def sweep(self) -> None:
        """One round. Safe to repeat."""
        await self._write_seen()
        changed = await self._store.expire()
        while changed.operations:
            self._notices.tell(changed)
            changed = await self._store.expire()

    async def finish(self) -> None:
        """Write what was seen last; a database that does not answer then keeps what it has."""
        try:
            await self._write_seen()
        except StoreUnavailableError as exc:
            log.warning("live state was not written", reason=str(exc))

    async def _find_silent(self) -> dict[str, tuple[int, Presence]]:
        """Nobody is silent before this controller has listened for long enough itself."""
        if self._clock.monotonic() - self._started < OFFLINE_AFTER_S:
            return {}
        return await self._store.find_silent(self._clock.now() - timedelta(seconds=OFFLINE_AFTER_S))

    async def _write(self, seen: Seen) -> None:
        silent = await self._find_silent()
        presence = {
            name: state for name, state in silent.items() if name not in seen.heartbeats
        } | seen.presence
        if seen or presence:
            await self._store.write_live_state(
                heartbeats=seen.heartbeats, presence=presence, progress=list(seen.progress.values())
            )

    async def _write_seen(self) -> None:
        """Nothing seen is lost to a database that does not answer: whoever was heard meanwhile would look
        silent."""
        seen = self._live.take()
        try:
            await self._write(seen)
        except StoreUnavailableError:
            self._live.put_back(seen)
            raise
