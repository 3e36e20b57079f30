"""How the system does: what is checked, and what each finding means."""

from datetime import timedelta
from typing import Final, Protocol

from controller.core.refusals import StoreUnavailableError
from releasehand.model import ComponentStatus, HealthStatus, Presence, SystemHealth
from shared.clock import Clock
from shared.logs import get_log

SLOW_DATABASE_S: Final = 1.0
SLOW_LOOP_S: Final = 1.0
LOOP_BEAT_S: Final = 0.5
OFFLINE_SHARE: Final = 0.5  # of the known agents

log = get_log(__name__)


class HealthStore(Protocol):
    """What health asks the database."""

    async def ping(self) -> None:
        """Raises StoreUnavailableError."""
        ...

    async def count_agents(self) -> dict[Presence, int]: ...


class Health:
    """Answers GetSystemHealth. `run` watches the event loop; without it the loop counts as well."""

    def __init__(self, store: HealthStore, clock: Clock, version: str) -> None:
        self._store, self._clock, self._version = store, clock, version
        self._started = clock.monotonic()
        self._lag_s = 0.0

    async def run(self) -> None:
        """Measure how late the loop comes to its work, until cancelled."""
        while True:
            due = self._clock.monotonic() + LOOP_BEAT_S
            await self._clock.sleep(LOOP_BEAT_S)
            self._lag_s = self._clock.monotonic() - due
            if self._lag_s > SLOW_LOOP_S:
                log.warning("event loop was late", lag_s=round(self._lag_s, 3))

    async def check(self) -> SystemHealth:
        """The whole picture. Never raises: a database that does not answer is a finding."""
        causes: list[str] = []
        database = await self._check_database(causes)
        cache = ComponentStatus.OK
        if self._lag_s > SLOW_LOOP_S:
            cache = ComponentStatus.DEGRADED
            causes.append(f"loop_slow: work waits {self._lag_s:.1f} s for its turn")
        if database is not ComponentStatus.DOWN:
            await self._check_agents(causes)
        status = HealthStatus.DEGRADED if causes else HealthStatus.HEALTHY
        if database is ComponentStatus.DOWN:
            status = HealthStatus.UNHEALTHY
        return SystemHealth(
            status=status,
            version=self._version,
            uptime=format_uptime(self._clock.monotonic() - self._started),
            database=database,
            cache=cache,
            timestamp=self._clock.now(),
            causes=causes,
        )

    async def _check_database(self, causes: list[str]) -> ComponentStatus:
        asked_at = self._clock.monotonic()
        try:
            await self._store.ping()
        except StoreUnavailableError as exc:
            causes.append(f"database_down: {exc}")
            return ComponentStatus.DOWN
        took_s = self._clock.monotonic() - asked_at
        if took_s > SLOW_DATABASE_S:
            causes.append(f"database_slow: it took {took_s:.1f} s to answer")
            return ComponentStatus.DEGRADED
        return ComponentStatus.OK

    async def _check_agents(self, causes: list[str]) -> None:
        try:
            counts = await self._store.count_agents()
        except StoreUnavailableError:
            return  # told by the next check
        total, offline = sum(counts.values()), counts.get(Presence.OFFLINE, 0)
        if total and offline / total >= OFFLINE_SHARE:
            causes.append(f"agents_offline: {offline} of {total}")


def format_uptime(seconds: float) -> str:
    """As Go prints a duration, in whole seconds: `76h5m12s`, `5m12s`, `12s`."""
    whole = int(timedelta(seconds=seconds).total_seconds())
    hours, minutes = whole // 3600, whole % 3600 // 60
    text = f"{whole % 60}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{hours}h{text}" if hours else text
