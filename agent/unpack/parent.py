"""Starts the unpacking child, hands it two descriptors and an order, and sees that it is gone afterwards."""

import asyncio
import functools
import importlib.util
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Final

from agent.disk import empty_directory, sync_filesystem
from agent.errors import ArchiveRefusedError, HostError, NoSpaceError, UnpackFailedError, disk_errors
from agent.finish import finish
from agent.unpack import landlock, ownership, sandbox
from agent.unpack.limits import Limits, UnpackResult
from agent.unpack.refusal import show
from agent.unpack.writeback import start_writeback

# -I: environment and working directory do not decide what is imported. -S: nor do .pth files, and it starts
# faster; so the places of what the child needs are arguments. -X utf8: names are UTF-8 everywhere. No garbage
# collector: it would look through all modules and all paths for cycles, and there are none to speak of.
_START: Final = (
    "import gc, sys; gc.disable(); sys.path += sys.argv[1:]; from agent.unpack.child import main; main()"
)
_NEEDED: Final = ("agent", "isal", "backports")
_FLUSH_EVERY_S: Final = 0.1
_FLUSH_FROM_BYTES: Final = 16 * 1024 * 1024  # of package; what less than that makes is written in a moment
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


async def unpack_in_child(package: BinaryIO, destination: Path, limits: Limits) -> UnpackResult:
    """See agent.unpack.unpack, which is the way in."""
    with disk_errors(destination):
        root = os.open(destination, _DIRECTORY)
        if os.listdir(root):  # asked before anything could be removed
            os.close(root)
            raise HostError(destination, "it is not empty")
    try:
        package.flush()  # the child reads the descriptor: what Python still holds back would be missing
        await finish(asyncio.to_thread(start_writeback, package.fileno()))  # or the commit would wait for it
        user = sandbox.child_user()
        with disk_errors(destination):
            if user is not None:
                ownership.hand_over(root, user)
        async with _flushing(destination, os.fstat(package.fileno()).st_size) as ended:
            try:
                result = _result(await _run(package.fileno(), root, limits, user), destination)
            finally:
                ended.set()
                if user is not None:
                    with disk_errors(destination):
                        contained = landlock.abi() >= landlock.LEAST_ABI
                        taking = asyncio.to_thread(ownership.take_over, root, user, contained=contained)
                        await finish(taking)
    except BaseException:
        with disk_errors(destination):
            await finish(asyncio.to_thread(empty_directory, destination))
        raise
    else:
        return result
    finally:
        os.close(root)
        package.seek(0)


@asynccontextmanager
async def _flushing(destination: Path, package_bytes: int) -> AsyncIterator[asyncio.Event]:
    """Have the file system write now and then what the block makes, until it sets the event: the last syncfs
    finds little to do then.

    An error of a syncfs is told once only (errseq_t in the kernel), so it is raised from here."""
    ended = asyncio.Event()
    if package_bytes < _FLUSH_FROM_BYTES:
        yield ended
        return

    async def flush() -> None:
        while not ended.is_set():
            with suppress(TimeoutError):
                async with asyncio.timeout(_FLUSH_EVERY_S):
                    await ended.wait()
                return
            with disk_errors(destination):
                await asyncio.to_thread(sync_filesystem, destination)

    flusher = asyncio.create_task(flush())  # owned: it ends with the block
    try:
        yield ended
        await flusher
    finally:
        flusher.cancel()  # nobody waits for a slow disk after an error or a cancel
        await asyncio.wait([flusher])
        if not flusher.cancelled():
            flusher.exception()  # raised above, or the block has an error of its own to tell


async def _run(package_fd: int, root: int, limits: Limits, user: int | None) -> bytes:
    order = {
        "package_fd": package_fd,
        "destination_fd": root,
        "limits": limits._asdict(),
        "user": user,
    }
    try:
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-I", "-S", "-X", "utf8", "-c", _START, *library_places()),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={},
            cwd="/",
            pass_fds=(package_fd, root),
            start_new_session=True,
        )
    except OSError as exc:
        raise UnpackFailedError(f"its process does not start: {exc.strerror}") from exc
    try:
        async with asyncio.timeout(limits.seconds):
            output, complaint = await child.communicate(json.dumps(order).encode() + b"\n")
    except TimeoutError as exc:
        raise UnpackFailedError(f"it took more than {limits.seconds:g} s") from exc
    finally:
        await finish(_end(child))
    if child.returncode != 0:
        raise UnpackFailedError(_how_it_ended(child.returncode, complaint))
    return output


@functools.cache
def library_places() -> tuple[str, ...]:
    """Return the directories that hold what the child imports beside the standard library."""
    found = [importlib.util.find_spec(name) for name in _NEEDED]
    places = [place for spec in found if spec for place in spec.submodule_search_locations or ()]
    return tuple(dict.fromkeys(os.path.dirname(place) for place in places))


async def _end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # not reaped yet, so the number is still its own
        await child.wait()
        if child.stdout is not None:
            await child.stdout.read()  # ends when its own child has ended too, which holds the same pipe


def _how_it_ended(code: int | None, complaint: bytes) -> str:
    last_words = complaint.strip().rpartition(b"\n")[2]
    how = (
        f"its process was ended by signal {-code}"
        if code is not None and code < 0
        else f"its process ended with {code}"
    )
    return f"{how}: {show(last_words)}" if last_words else how


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
