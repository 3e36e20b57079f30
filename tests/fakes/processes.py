"""Real daemons as processes of their own: each in a session of its own, ended by its own id."""

import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from tests.fakes.waiting import until

HERE: Final = "127.0.0.1"
MARK: Final = "RELEASEHAND_TEST_FOLDER"
"""Stands, with the test's folder, in the environment of every process that belongs to a test."""
_PORTS: Final = range(20_000, 32_000)  # below the range that outgoing connections take theirs from
_SHOWN_LOG_CHARS: Final = 3_000
_END_WITHIN_S: Final = 10.0
_READY_WITHIN_S: Final = 30.0


class Daemon:
    """One long-running process whose output goes to a log file. It may be started again when it has ended."""

    def __init__(self, name: str, argv: Sequence[str], *, folder: Path, ready: str) -> None:
        """`folder` is the test's own and marks what is started; `ready` is what it logs once it works."""
        self.name, self.argv, self.log_file = name, tuple(argv), folder / f"{name}.log"
        self._folder, self._ready = folder, ready
        self._process: subprocess.Popen[bytes] | None = None
        self._log_start = 0

    @property
    def runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Of the newest process; minus the number of the signal that ended it, None while it runs."""
        return self._process.poll() if self._process is not None else None

    @property
    def process(self) -> psutil.Process:
        """The running process, to be looked at. Raises psutil.NoSuchProcess."""
        assert self._process is not None, "it was never started"
        return psutil.Process(self._process.pid)

    @property
    def stopped(self) -> bool:
        """Whether it stands still by SIGSTOP."""
        return self.runs and self.process.status() == psutil.STATUS_STOPPED

    def start(self, *more: str) -> None:
        """Start it, with `more` arguments this time; it is not ready on return."""
        assert not self.runs, f"{self.name} runs already"
        environment = {key: value for key, value in os.environ.items() if not key.startswith("RELEASEHAND_")}
        with self.log_file.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(
                [*self.argv, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment | {MARK: str(self._folder), "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )

    async def ready(self, *, count: int = 1) -> None:
        """Wait until it has said `count` times since its start that it works."""
        await self.wait_for_log(self._ready, count=count)

    async def wait_for_log(self, text: str, *, count: int = 1) -> None:
        """Wait until `text` stands `count` times in its log since its start, however long it runs then."""
        with suppress(TimeoutError):
            await until(lambda: self.log().count(text) >= count or not self.runs, within_s=_READY_WITHIN_S)
        said = self.log()
        assert said.count(text) >= count, f"{self.name} did not say {text!r}:\n{said[-_SHOWN_LOG_CHARS:]}"

    def log(self) -> str:
        """What it has logged since its last start."""
        return self.log_file.read_bytes()[self._log_start :].decode(errors="replace")

    def send(self, number: signal.Signals) -> None:
        """Signal the process; nothing happens when it has ended."""
        if self._process is not None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL: it gets no chance to tidy up."""
        await self._end(signal.SIGKILL)

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL if that takes too long. Safe to repeat."""
        self.send(signal.SIGCONT)
        await self._end(signal.SIGTERM)

    async def ended(self, *, within_s: float = 30.0) -> int:
        """Wait for its end; return its exit code, minus the number of a signal that ended it."""
        await until(lambda: not self.runs, within_s=within_s)
        assert self._process is not None, "it was never started"
        return int(self._process.returncode)

    async def _end(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        self.send(number)
        try:
            await self.ended(within_s=_END_WITHIN_S)
        except TimeoutError:
            self._process.kill()
            self._process.wait()


def find_marked(folder: Path) -> list[psutil.Process]:
    """Return the processes that carry the mark of the test in `folder`, wherever they moved to."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.environ().get(MARK) == str(folder):
                found.append(process)
    return found


async def end_marked(folder: Path) -> None:
    """End what is left of the test in `folder`: services outlive their agents."""
    for process in find_marked(folder):
        with suppress(psutil.NoSuchProcess):
            process.kill()  # psutil looks at the start time too: never a later process with that number
    await until(lambda: not find_marked(folder), within_s=_END_WITHIN_S)


def free_ports() -> Iterator[int]:
    """Ports that nobody listens on, each once."""
    for port in random.sample(_PORTS, len(_PORTS)):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((HERE, port))
            except OSError:
                continue
        yield port
