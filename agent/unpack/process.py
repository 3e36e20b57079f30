"""The unpacking child as its parent has it: started, given its one order, ended.

Starting takes longer than a small package does, and needs nothing of the package: so a child can be started
before there is one to unpack (Standby)."""

import asyncio
import functools
import importlib.util
import os
import signal
import socket
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final

from agent.errors import UnpackFailedError
from agent.finish import finish
from agent.unpack.refusal import show

# -I: environment and working directory do not decide what is imported. -S: nor do .pth files, and it starts
# faster; so the places of what the child needs are arguments. -X utf8: names are UTF-8 everywhere. No garbage
# collector: it would look through all modules and all paths for cycles, and there are none to speak of.
_START: Final = (
    "import gc, sys; gc.disable(); sys.path += sys.argv[1:]; from agent.unpack.child import main; main()"
)
_NEEDED: Final = ("agent", "isal", "backports")


class Child:
    """One child. Whoever has it must await `end`."""

    def __init__(self, process: asyncio.subprocess.Process, orders: socket.socket) -> None:
        """Use `start_child`."""
        self._process, self._orders = process, orders

    @property
    def pid(self) -> int:
        """Its number, which is that of its session too."""
        return self._process.pid

    @property
    def ended(self) -> bool:
        """Whether it has ended already."""
        return self._process.returncode is not None

    async def carry_out(self, order: bytes, descriptors: Iterable[int], *, within_s: float) -> bytes:
        """Give the child its order and the descriptors; return its answer. Once only.

        Raises UnpackFailedError when it gives none, or takes longer. Safe to cancel."""
        with suppress(ConnectionError):  # it has ended: told below, with its last words
            socket.send_fds(self._orders, [order], list(descriptors))
        try:
            async with asyncio.timeout(within_s):
                output, complaint = await self._process.communicate()
        except TimeoutError as exc:
            raise UnpackFailedError(f"it took more than {within_s:g} s") from exc
        if self._process.returncode != 0:
            raise UnpackFailedError(_how_it_ended(self._process.returncode, complaint))
        return output

    async def end(self) -> None:
        """Return when the child and its own child are gone. Safe to repeat."""
        self._orders.close()
        if self._process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
            await self._process.wait()
        if self._process.stdout is not None:
            await self._process.stdout.read()  # ends with its own child, which holds the same pipe


async def start_child() -> Child:
    """Start a child that waits for its order, and ends by itself when this process does.

    Raises UnpackFailedError. After a cancel there is no child."""
    orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, *library_places()),
            stdin=theirs.fileno(),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            start_new_session=True,
        )
    except BaseException as exc:
        orders.close()
        if isinstance(exc, OSError):
            raise UnpackFailedError(f"its process does not start: {exc.strerror}") from exc
        raise
    finally:
        theirs.close()
    return Child(process, orders)


class Standby:
    """A child that is started before it is needed, at most one at a time."""

    def __init__(self) -> None:
        self._starting: asyncio.Task[Child] | None = None  # owned here, until `take` or `end`

    def begin(self) -> None:
        """Start a child if there is none; returns at once."""
        if self._starting is None:
            self._starting = asyncio.create_task(start_child())

    async def take(self) -> Child:
        """Return the child that was begun, or a new one; it is the caller's to end. Raises UnpackFailedError.

        Safe to cancel: what was begun is then still here."""
        if self._starting is not None:
            await asyncio.wait([self._starting])
            starting, self._starting = self._starting, None
            child = starting.result()
            if not child.ended:
                return child
            await finish(child.end())  # somebody killed it while it waited
        return await start_child()

    async def end(self) -> None:
        """End what was begun and not taken. Safe to repeat. Not to be cancelled (agent.finish)."""
        if self._starting is None:
            return
        starting, self._starting = self._starting, None
        await asyncio.wait([starting])  # a thousandth of a second
        if not starting.cancelled() and starting.exception() is None:
            await starting.result().end()


@functools.cache
def library_places() -> tuple[str, ...]:
    """Return the directories that hold what the child imports beside the standard library."""
    found = [importlib.util.find_spec(name) for name in _NEEDED]
    places = [place for spec in found if spec for place in spec.submodule_search_locations or ()]
    return tuple(dict.fromkeys(os.path.dirname(place) for place in places))


def _how_it_ended(code: int | None, complaint: bytes) -> str:
    last_words = complaint.strip().rpartition(b"\n")[2]
    how = (
        f"its process was ended by signal {-code}"
        if code is not None and code < 0
        else f"its process ended with {code}"
    )
    return f"{how}: {show(last_words)}" if last_words else how
