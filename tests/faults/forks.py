"""A program that is loaded once and carries out one order after the other, each in a fork of its own.

An order is a file. `serve` reads paths from stdin, one a line, and says for each how its fork ended; what the
fork says goes into a `.log` beside the order. `ForkServer` is the other end."""

import asyncio
import os
import sys
import traceback
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
_ENDS_WITHIN_S: Final = 90.0


def serve(carry_out: Callable[[Path], int], *, before: Callable[[Path], None] = lambda _: None) -> None:
    """Until stdin ends; `before` is called with each order in the process that serves."""
    for line in sys.stdin:
        path = Path(line.strip())
        before(path)
        child = os.fork()
        if child == 0:
            _work(carry_out, path)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{status}\n")
        sys.stdout.flush()


def _work(carry_out: Callable[[Path], int], path: Path) -> None:
    """Never returns: a fork must not go on with its parent's loop."""
    os.setsid()
    log = os.open(path.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    status = 1
    try:
        status = carry_out(path)
    except BaseException:  # noqa: BLE001 - whatever it is, the parent hears of it by the status and the log
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


class ForkServer:
    """One order at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Use `open_server`."""
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def carry_out(self, path: Path) -> int:
        """Have the order at `path` carried out; returns its exit code, minus the number of a signal that
        ended it. Raises TimeoutError."""
        assert self._process.stdin is not None, "opened with pipes"
        assert self._process.stdout is not None, "opened with pipes"
        self._process.stdin.write(f"{path}\n".encode())
        async with asyncio.timeout(_ENDS_WITHIN_S):
            line = await self._process.stdout.readline()
        return os.waitstatus_to_exitcode(int(line))


@asynccontextmanager
async def open_server(module: str, *, within: Sequence[str] = ()) -> AsyncIterator[ForkServer]:
    """The server that `python -m MODULE --serve` is, started by the command `within`; it has ended when the
    block has."""
    process = await asyncio.create_subprocess_exec(
        *(*within, sys.executable, "-m", module, "--serve"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        cwd=ROOT,
        env={key: value for key, value in os.environ.items() if not key.startswith("RELEASEHAND_")},
        start_new_session=True,
    )
    try:
        yield ForkServer(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
