"""A namespace of processes where one order after the other is carried out: nothing of it outlives its block,
and nobody else's processes are seen or touched from within."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults import one_shot
from tests.faults.one_shot import Order

_ENDS_WITHIN_S: Final = 60.0
_UNSHARE: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_ROOT: Final = ("--user", "--map-root-user")  # of the namespace alone


def namespace_options() -> tuple[str, ...] | None:
    """How to make one here; None where this user may not."""
    for options in [()] if os.geteuid() == 0 else [_AS_ROOT]:
        command = [*_UNSHARE, *options, "true"]
        if shutil.which("unshare") and subprocess.run(command, capture_output=True, check=False).returncode == 0:
            return options
    return None


class Slot:
    """One order at a time."""

    def __init__(self, process: asyncio.subprocess.Process, port: int) -> None:
        self._process, self.port = process, port

    async def carry_out(self, order: Order, path: Path) -> int:
        """Write the order to `path` and have it carried out; returns its exit code, minus the number of a
        signal that ended it. What it says is beside the order, in a `.log`. Raises TimeoutError."""
        assert self._process.stdin is not None, "opened with pipes"
        assert self._process.stdout is not None, "opened with pipes"
        self._process.stdin.write(f"{order.write(path)}\n".encode())
        async with asyncio.timeout(_ENDS_WITHIN_S):
            line = await self._process.stdout.readline()
        return os.waitstatus_to_exitcode(int(line))


@asynccontextmanager
async def open_slot(port: int, *options: str) -> AsyncIterator[Slot]:
    """A slot whose services listen on `port`; `options` are more for unshare(1). Its processes have ended
    when the block has."""
    process = await asyncio.create_subprocess_exec(
        *(*_UNSHARE, *options, sys.executable, str(Path(one_shot.__file__)), "--serve"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={key: value for key, value in os.environ.items() if not key.startswith("RELEASEHAND_")},
        start_new_session=True,
    )
    try:
        yield Slot(process, port)
    finally:
        if process.returncode is None:
            process.kill()  # the namespace goes with it
        await process.wait()
