"""A namespace of processes where one order after the other is carried out: nothing of it outlives its block,
and nobody else's processes are seen or touched from within."""

import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from tests.faults.forks import ForkServer, open_server
from tests.faults.order import Order

_UNSHARE: Final = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")
_AS_ROOT: Final = ("--user", "--map-root-user")  # of the namespace alone


def namespace_options() -> tuple[str, ...] | None:
    """How to make one here; None where this user may not."""
    options = () if os.geteuid() == 0 else _AS_ROOT
    if shutil.which("unshare") is None:
        return None
    tried = subprocess.run([*_UNSHARE, *options, "true"], capture_output=True, check=False)
    return options if tried.returncode == 0 else None


class Slot:
    """One order at a time; its services listen on `port`."""

    def __init__(self, server: ForkServer, port: int) -> None:
        self._server, self.port = server, port

    async def carry_out(self, order: Order, path: Path) -> int:
        """Write the order to `path` and have it carried out; see ForkServer."""
        return await self._server.carry_out(order.write(path))


@asynccontextmanager
async def open_slot(port: int, *options: str) -> AsyncIterator[Slot]:
    """A slot of its own; `options` are more for unshare(1). All its processes end with the block."""
    async with open_server("tests.faults.one_shot", within=(*_UNSHARE, *options)) as server:
        yield Slot(server, port)
