"""Run one short-lived program by argv, and be sure that it is gone afterwards."""

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from agent.finish import finish
from releasehand.shown import escape_controls

MINIMAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
SYSTEMD_ENVIRONMENT: Final[Mapping[str, str]] = MappingProxyType(
    {"PATH": MINIMAL_PATH, "LC_ALL": "C", "SYSTEMD_COLORS": "0", "SYSTEMD_PAGER": ""}
)
"""Of systemctl, systemd-run and journalctl: what they print is read by us, in English and without colours."""

_OUTPUT_BYTES: Final = 4096
_READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Ran:
    """How a program ended. `output` is the last of what it printed, control characters escaped."""

    code: int
    output: str


class Output:
    """The last `most_bytes` of what a program printed; it can be asked while the program runs."""

    def __init__(self, most_bytes: int = _OUTPUT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._tail = b""

    def add(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-self._most_bytes :]

    @property
    def text(self) -> str:
        """Escaped, and so perhaps longer than it was."""
        return printable(self._tail)


async def run_tool(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    cwd: Path = Path("/"),
    output: Output | None = None,
    started: Callable[[int], None] = lambda _: None,
) -> Ran:
    """Run `argv` in a session of its own and wait for it. `output`, if given, fills while it runs; `started`
    is told the process right after its start, and must not raise.

    It has ended when its own process has; what it leaves in its process group is killed then, and so is
    everything when this is cancelled. Raises OSError if it cannot be started.
    """
    output = output or Output()
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    source, sink = os.pipe2(os.O_CLOEXEC)
    try:
        try:
            tool = subprocess.Popen(  # noqa: ASYNC220 - fork and exec alone; asyncio's own does it here too
                argv,
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
                env=dict(environment),
                cwd=cwd,
                start_new_session=True,
            )
        finally:
            os.close(sink)
        started(tool.pid)
        pidfd = os.pidfd_open(tool.pid)
        os.set_blocking(source, False)

        def collect() -> None:
            if not _read_all(source, output):
                loop.remove_reader(source)

        loop.add_reader(source, collect)
        loop.add_reader(pidfd, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(pidfd)
            os.close(pidfd)
            if _kill_group(tool.pid) or ended.is_set():
                await finish(asyncio.to_thread(tool.wait))
            loop.remove_reader(source)
            _read_all(source, output)  # what it said last; one that left its group may hold the pipe open
    finally:
        os.close(source)
    assert tool.returncode is not None, "it has ended, and was waited for"
    return Ran(tool.returncode, output.text)


def _kill_group(pid: int) -> bool:
    """Kill the group that `pid` leads; it is not reaped yet, so the number is still its own. False where that
    is not allowed (it took another user's rights): there is no use in waiting for it then."""
    try:
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)
    except PermissionError:
        return False
    return True


def _read_all(source: int, output: Output) -> bool:
    """Take what is there now; False when nothing can come any more."""
    for _ in range(16):  # one that prints without end must not keep us here
        try:
            data = os.read(source, _READ_BYTES)
        except BlockingIOError:
            return True
        if not data:
            return False
        output.add(data)
    return True


def printable(output: bytes) -> str:
    """Return `output` as text that cannot move a terminal's cursor or forge a log line."""
    return "\n".join(map(escape_controls, output.decode("utf-8", "replace").strip().splitlines()))
