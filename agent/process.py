"""One process, never mistaken for a later one with its number: pid and start time, held by a pidfd."""

import asyncio
import os
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
# Positions behind the ")" that ends the command's name (proc_pid_stat(5), counted from field 3).
_STATE, _SESSION, _STARTED = 0, 3, 19
_DEAD: Final = frozenset({"Z", "X", "x"})


@dataclass(frozen=True)
class Process:
    """`started` is in clock ticks after boot, so both together are unique until the host restarts."""

    pid: int
    started: int

    def is_alive(self) -> bool:
        """Tell whether this very process runs; a zombie does not."""
        return _started(self.pid) == self.started

    def open(self) -> int | None:
        """Return a pidfd of this very process, which the caller closes; None if it has ended."""
        try:
            fd = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return None
        if self.is_alive():  # asked after opening: the descriptor cannot come to mean another process
            return fd
        os.close(fd)
        return None

    def kill_group(self, number: signal.Signals) -> None:
        """Signal the process group that this process leads, if it still runs. Raises PermissionError."""
        if (fd := self.open()) is None:
            return
        try:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)
        finally:
            os.close(fd)

    def kill(self, number: signal.Signals) -> None:
        """Signal this process alone, if it still runs. Raises PermissionError."""
        if (fd := self.open()) is None:
            return
        try:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(fd, number)
        finally:
            os.close(fd)

    async def wait(self) -> None:
        """Return when this process has ended (a zombie has). Safe to cancel."""
        if (fd := self.open()) is None:
            return
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        loop.add_reader(fd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(fd)
            os.close(fd)


def identify(pid: int) -> Process | None:
    """Return the process that has the number `pid` now; None if none does, or it has ended."""
    started = _started(pid)
    return None if started is None else Process(pid, started)


def find_marked(variable: str, value: str) -> list[Process]:
    """Return the processes that were started with `variable` = `value` in their environment, oldest first.

    Children inherit it, whatever session or group they moved to. Processes that we may not look into are
    left out.
    """
    wanted = f"{variable}={value}".encode()
    found = []
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            marked = wanted in (entry / "environ").read_bytes().split(b"\0")
        except OSError:  # ended meanwhile, or another user's
            continue
        if marked and (process := identify(int(entry.name))):
            found.append(process)
    return sorted(found, key=lambda process: process.started)


def find_session(leader: Process) -> list[Process]:
    """Return what runs of the session that `leader` led, whether it runs itself or has ended: its number is
    not given to another process as long as one of its session is left."""
    holder = identify(leader.pid)
    if holder is not None and holder != leader:
        return []
    found = [int(entry.name) for entry in _PROC.iterdir() if entry.name.isdigit()]
    processes = [process for pid in found if (process := identify(pid)) is not None]
    return [one for one in processes if _session(one.pid) == leader.pid and one.started >= leader.started]


def leads_session(process: Process) -> bool:
    """Tell whether `process` leads a session of its own."""
    return _session(process.pid) == process.pid


def boot_id() -> str:
    """Name this boot of the host: process numbers and start times mean nothing in another one."""
    return (_PROC / "sys/kernel/random/boot_id").read_text().strip()


def _session(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None else int(fields[_SESSION])


def _started(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None or fields[_STATE] in _DEAD else int(fields[_STARTED])


def _stat(pid: int) -> list[str] | None:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text[text.rindex(")") + 2 :].split()
