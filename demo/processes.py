"""The demo's processes: started each in a session of its own, ended by their own ids and never by a name."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from demo.errors import DaemonError
from demo.layout import MARK
from shared.clock import Clock

STOP_TIMEOUT_S: Final = 8.0
READY_TIMEOUT_S: Final = 30.0
LOOK_EVERY_S: Final = 0.05
SHOWN_LOG_LINES: Final = 5


class Daemon:
    """One long-running process whose output goes to a log file. It may be started again when it has ended."""

    def __init__(self, name: str, argv: Sequence[str], *, folder: Path, log_file: Path, clock: Clock) -> None:
        """`folder` is the demo's own: it marks everything that is started."""
        self.name, self.log_file = name, log_file
        self._argv, self._folder, self._clock = tuple(argv), folder, clock
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def runs(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Of the newest process. Raises DaemonError when it was never started, or stopped by us."""
        if self._process is None:
            raise DaemonError(f"{self.name} does not run")
        return self._process.pid

    def start(self) -> None:
        """Start it, in a session of its own: a Ctrl-C is for the demo, which ends the rest in order."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RELEASEHAND_")}
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | {MARK: str(self._folder), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    async def wait_for(self, text: str) -> None:
        """Return when it has logged `text` since its start. Raises DaemonError when it ends before, or takes
        too long."""
        try:
            async with asyncio.timeout(READY_TIMEOUT_S):
                while text not in self.log():
                    self.check()
                    await self._clock.sleep(LOOK_EVERY_S)
        except TimeoutError:
            raise DaemonError(f"{self.name} was not ready within {READY_TIMEOUT_S:g} s") from None

    def log(self) -> str:
        """What it has logged since its last start."""
        return self.log_file.read_bytes()[self._log_start :].decode(errors="replace")

    def check(self) -> None:
        """Raises DaemonError with the end of its log if it has ended."""
        if self._process is not None and (code := self._process.poll()) is not None:
            lines = self.log().splitlines()[-SHOWN_LOG_LINES:]
            how = f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise DaemonError("\n  ".join([f"{self.name} {how}", *lines]))

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes too long. Safe to repeat."""
        await self._end(signal.SIGTERM)

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        await self._end(signal.SIGKILL)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self._process.send_signal(number)  # does nothing once the process was waited for
        process, self._process = self._process, None
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while process.poll() is None:
                    await self._clock.sleep(LOOK_EVERY_S)
        except TimeoutError:
            process.kill()
            process.wait()


async def end_marked(folder: Path, clock: Clock) -> None:
    """End what is left of the demo in `folder`: services outlive their agents. By SIGTERM, then SIGKILL."""
    for end in (psutil.Process.terminate, psutil.Process.kill):
        for process in find_marked(folder):
            with suppress(psutil.NoSuchProcess):
                end(process)  # psutil looks at the start time too: never a later process with that number
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_TIMEOUT_S):
                while find_marked(folder):
                    await clock.sleep(LOOK_EVERY_S)
                return


def find_marked(folder: Path) -> list[psutil.Process]:
    """Return the processes that carry the mark of the demo in `folder`, wherever they moved to."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder):
                found.append(process)
    return found
