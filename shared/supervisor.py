"""Telling systemd how the daemon does: sd_notify(3), sd_watchdog_enabled(3)."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Final, NoReturn, Self

from shared.clock import Clock
from shared.logs import get_log

EXTEND_EVERY_S: Final = 5.0
EXTEND_BY_S: Final = 30.0

log = get_log(__name__)


class Supervisor:
    """What started this process and wants to hear of it; without one, nothing is said.

    `run` belongs into the event loop that does the work: it feeds the watchdog from there, so that a loop
    that hangs starves it."""

    def __init__(self, address: str = "", watchdog_s: float = 0.0) -> None:
        """`address` is a path, or a name of the abstract kind after `@`; "" for nobody. `watchdog_s` is how
        long a silence systemd bears, 0 for any."""
        self._address, self._watchdog_s = address, watchdog_s
        self._ready = False

    @classmethod
    def from_environment(cls, environment: MutableMapping[str, str]) -> Self:
        """Takes the variables out: what this process starts must not speak in its name."""
        address = environment.pop("NOTIFY_SOCKET", "")
        span, pid = environment.pop("WATCHDOG_USEC", ""), environment.pop("WATCHDOG_PID", "")
        ours = not pid or pid == str(os.getpid())
        return cls(address, int(span) / 1_000_000 if span.isdecimal() and ours else 0.0)

    def ready(self) -> None:
        """Work has begun: what was begun before the start is recovered."""
        self._ready = True
        self._tell("READY=1")
        self._feed()

    def show(self, status: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={' '.join(status.split())}")

    def stopping(self) -> None:
        """The end was asked for, and is on its way."""
        self._tell("STOPPING=1")

    @asynccontextmanager
    async def watch(self, clock: Clock) -> AsyncIterator[None]:
        """`run` beside the block."""
        task = asyncio.create_task(self.run(clock), name="supervisor")
        try:
            yield
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def run(self, clock: Clock) -> NoReturn:
        """Until `ready`, ask for patience; then feed the watchdog, twice as often as it wants."""
        while True:
            if not self._ready:
                self._tell(f"EXTEND_TIMEOUT_USEC={round(EXTEND_BY_S * 1_000_000)}")
                await clock.sleep(EXTEND_EVERY_S if not self._watchdog_s else self._pause_s)
            else:
                self._feed()
                await clock.sleep(self._pause_s if self._watchdog_s else 3600.0)

    @property
    def _pause_s(self) -> float:
        return min(EXTEND_EVERY_S, self._watchdog_s / 2)

    def _feed(self) -> None:
        if self._watchdog_s:
            self._tell("WATCHDOG=1")

    def _tell(self, line: str) -> None:
        if not self._address:
            return
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as told:
                told.setblocking(False)
                told.sendto(line.encode(), address)
        except OSError as exc:  # what is not heard is said again soon
            log.debug("supervisor could not be told", line=line, reason=str(exc))


UNSUPERVISED: Final = Supervisor()
