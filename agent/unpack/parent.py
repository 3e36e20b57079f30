"""Has a child unpack a package, and takes over what it made."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.disk import Witness, empty_directory
from agent.errors import ArchiveRefusedError, HostError, NoSpaceError, UnpackFailedError, disk_errors
from agent.finish import finish
from agent.unpack import landlock, ownership, sandbox
from agent.unpack.limits import Limits, UnpackResult
from agent.unpack.process import Standby
from agent.unpack.writeback import start_writeback

_FLUSH_EVERY_S: Final = 0.1
_FLUSH_FROM_BYTES: Final = 16 * 1024 * 1024  # of package; what less than that makes is written in a moment
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def unpack_in_child(
    package: BinaryIO, destination: Path, limits: Limits, standby: Standby | None
) -> UnpackResult:
    """See agent.unpack.unpack, which is the way in."""
    with disk_errors(destination):
        root = os.open(destination, _DIRECTORY)
        if os.listdir(root):  # asked before anything could be removed
            os.close(root)
            raise HostError(destination, "it is not empty")
    user = sandbox.child_user()
    try:
        package.flush()  # the child reads the descriptor: what Python still holds back would be missing
        await finish(asyncio.to_thread(start_writeback, package.fileno()))  # or the commit would wait for it
        with disk_errors(destination):
            if user is not None:
                ownership.hand_over(root, user)
        async with _flushing(destination, os.fstat(package.fileno()).st_size):
            result = _result(await _run(package.fileno(), root, limits, user, standby), destination)
            if user is not None:
                with disk_errors(destination):
                    contained = landlock.abi() >= landlock.LEAST_ABI
                    taking = asyncio.to_thread(ownership.take_over, root, user, contained=contained)
                    await finish(taking)
    except asyncio.CancelledError:
        raise  # emptying a large tree takes longer than a cancel may
    except BaseException:
        with disk_errors(destination):
            await finish(asyncio.to_thread(empty_directory, destination))
        raise
    else:
        return result
    finally:
        if user is not None:
            with suppress(OSError):  # whatever went wrong before tells more
                ownership.hand_back(root)
        os.close(root)
        package.seek(0)


@asynccontextmanager
async def _flushing(destination: Path, package_bytes: int) -> AsyncIterator[None]:
    """Have the file system write now and then what the block makes: the last syncfs finds little to do then.

    A hint, whose errors are told to every Witness that was there before: whoever wants the tree to last."""
    if package_bytes < _FLUSH_FROM_BYTES:
        yield
        return

    async def flush() -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_EVERY_S):
                    await asyncio.Event().wait()
            with suppress(OSError):
                await asyncio.to_thread(lambda: Witness(destination).sync())

    flusher = asyncio.create_task(flush())  # owned: it ends with the block
    try:
        yield
    finally:
        flusher.cancel()  # nobody waits for a slow disk
        await asyncio.wait([flusher])


async def _run(
    package_fd: int, root: int, limits: Limits, user: int | None, standby: Standby | None
) -> bytes:
    order = json.dumps({"limits": limits._asdict(), "user": user}).encode()
    child = await (standby or Standby()).take()
    try:
        return await child.carry_out(order, (package_fd, root), within_s=limits.seconds)
    finally:
        await finish(child.end())


def _result(output: bytes, destination: Path) -> UnpackResult:
    try:
        answer: dict[str, Any] = json.loads(output)
    except ValueError as exc:
        raise UnpackFailedError("its process gave no answer") from exc
    match answer:
        case {"done": {"entries": int(entries), "total_bytes": int(total_bytes)}}:
            return UnpackResult(entries, total_bytes)
        case {"refused": str(reason)}:
            raise ArchiveRefusedError(reason)
        case {"no_space": True}:
            raise NoSpaceError(destination)
        case {"host": str(reason)}:
            raise HostError(destination, reason)
        case _:
            raise UnpackFailedError("its process gave an answer that makes no sense")
