"""Run one short-lived program by argv, and be sure that it is gone afterwards."""

import asyncio
import os
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agent.finish import finish

MINIMAL_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OUTPUT_BYTES: Final = 4096
_READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Ran:
    """How a program ended. `output` is the last 4 KiB that it printed, control characters escaped."""

    code: int
    output: str


async def run_tool(argv: Sequence[str], *, environment: Mapping[str, str], cwd: Path = Path("/")) -> Ran:
    """Run `argv` in a session of its own and wait for it. Cancelling kills it and all of its process group.

    Raises OSError if it cannot be started.
    """
    tool = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=dict(environment),
        cwd=cwd,
        start_new_session=True,
    )
    try:
        tail = b""
        assert tool.stdout is not None
        while data := await tool.stdout.read(_READ_BYTES):
            tail = (tail + data)[-_OUTPUT_BYTES:]
        return Ran(await tool.wait(), printable(tail))
    finally:
        await finish(_end(tool))


async def _end(tool: asyncio.subprocess.Process) -> None:
    if tool.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(tool.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        await tool.wait()


def printable(output: bytes) -> str:
    """Return `output` as text that cannot move a terminal's cursor or forge a log line."""
    lines = output.decode("utf-8", "replace").strip().splitlines()
    return "\n".join(
        "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in line)
        for line in lines
    )
