"""What heartbeats carry: the host's load and how each instance does, looked at now and then, told from
memory."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn, Protocol

import psutil

from agent.journal import JournalError
from shared.clock import Clock
from shared.frames import Heartbeat, HostLoad, InstancePulse
from shared.logs import get_log

SAMPLE_EVERY_S: Final = 5.0

log = get_log(__name__)


class Instances(Protocol):
    """Who is asked how the instances do."""

    async def pulses(self) -> list[InstancePulse]:
        """One for each instance. Raises JournalError."""
        ...


class Pulse:
    """Keep `run` running; `heartbeat` answers at once with the newest look."""

    def __init__(
        self, instances: Instances, *, disk: Path, position: Callable[[], int], clock: Clock
    ) -> None:
        """Free space is told of the file system of `disk`; `position` is the number of the newest report."""
        self._instances, self._disk, self._position, self._clock = instances, disk, position, clock
        self._newest = Heartbeat()

    def heartbeat(self) -> Heartbeat:
        """The newest look; empty before the first."""
        return self._newest

    async def run(self) -> NoReturn:
        """Look, until cancelled. A look that fails leaves the one before in place."""
        while True:
            try:
                await self.look()
            except (JournalError, psutil.Error, OSError) as exc:
                log.warning("host could not be looked at", reason=str(exc))
            await self._clock.sleep(SAMPLE_EVERY_S)

    async def look(self) -> None:
        """Look once. Raises JournalError, psutil.Error, OSError."""
        host = await asyncio.to_thread(_measure, self._disk)
        position = self._position()
        instances = await self._instances.pulses()
        if position == self._position():  # else some of it was seen before the report and some after it
            self._newest = Heartbeat(host=host, instances=instances, last_n=position)


def _measure(disk: Path) -> HostLoad:
    space = os.statvfs(disk)
    return HostLoad(
        cpu_percent=psutil.cpu_percent(interval=None),  # since the look before
        memory_percent=psutil.virtual_memory().percent,
        load_1m=os.getloadavg()[0],
        disk_free_bytes=space.f_bavail * space.f_frsize,
    )
