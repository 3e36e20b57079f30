"""The file that a download grows in, and the finished download that still holds its descriptor."""

import asyncio
import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Final

import aiofiles

from agent.errors import disk_errors
from agent.finish import finish

SUFFIX: Final = ".partial"


@dataclass(frozen=True)
class Download:
    """A package on this host. `file` is open for reading and writing at position 0.

    Verify and unpack through `file` only: the name may be replaced by somebody else, the descriptor cannot
    (S7).
    """

    file: BinaryIO
    path: Path
    sha256: str
    size_bytes: int

    def close(self) -> None:
        """Close the descriptor and remove the file. Safe to repeat."""
        self.file.close()
        self.path.unlink(missing_ok=True)


class PartialFile:
    """Grows by `append`, ends by `complete` or `discard`; one of the two must be called.

    A cancel waits for the block that a thread is writing: its descriptor must not be closed, and its number
    given to another file, meanwhile. Raises NoSpaceError and HostError.
    """

    def __init__(self, directory: Path, name: str) -> None:
        """Make a new file in `directory`, readable by us only. Blocks for the time of one open(2)."""
        self._path = directory / f"{name}-{secrets.token_hex(8)}{SUFFIX}"
        with disk_errors(self._path):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            fd = os.open(self._path, flags, 0o600)
        self._file: BinaryIO = os.fdopen(fd, "r+b", buffering=0)
        self._sha256 = hashlib.sha256()
        self.size_bytes = 0

    async def append(self, block: memoryview) -> None:
        """Write all of `block` and hash it."""
        self._sha256.update(block)
        with disk_errors(self._path):
            await finish(self._write(block))
        self.size_bytes += len(block)

    async def _write(self, block: memoryview) -> None:
        async with aiofiles.open(self._file.fileno(), "r+b", buffering=0, closefd=False) as file:
            while block:
                block = block[await file.write(block) :]

    def complete(self) -> Download:
        """Hand the file over."""
        self._file.seek(0)
        return Download(self._file, self._path, self._sha256.hexdigest(), self.size_bytes)

    async def discard(self) -> None:
        """Close and remove the file."""
        self._file.close()
        await finish(asyncio.to_thread(self._path.unlink, missing_ok=True))


def clear_partials(directory: Path) -> None:
    """Make `directory` if it is missing, and remove what an agent that died left half-done there."""
    with disk_errors(directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        for path in directory.glob(f"*{SUFFIX}"):
            path.unlink(missing_ok=True)


def free_bytes(directory: Path) -> int:
    """Return what an ordinary user may still write to the file system of `directory`."""
    with disk_errors(directory):
        stats = os.statvfs(directory)
    return stats.f_bavail * stats.f_frsize
