"""The file that a download grows in, across cuts and across restarts of the agent."""

import asyncio
import hashlib
import io
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final

from aiofiles.threadpool import wrap

from agent.download.record import PartialRecord, read_record, write_record
from agent.errors import disk_errors
from agent.finish import finish

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

SUFFIX: Final = ".partial"
RECORD_SUFFIX: Final = ".partial.json"
_SLICE_BYTES: Final = 32 * 1024 * 1024  # what a thread hashes in one go; a cancel waits that long
_READ_BYTES: Final = 256 * 1024
_FLAGS: Final = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC


class HashingFile(io.FileIO):
    """A file that hashes what is written, in the thread that writes it."""

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "r+")
        self.digest = hashlib.sha256()

    def write(self, block: "ReadableBuffer") -> int:
        """Write some of `block`, and hash that; return how much it was. Blocks; raises OSError."""
        view = memoryview(block)
        written = super().write(view)
        self.digest.update(view[:written])
        return written


class PartialFile:
    """Grows by `append`; ends by `take`, `keep` or `discard`, one of which must be called.

    One of a name at a time: the caller sees to that. A cancel waits for the block that a thread is writing:
    its descriptor must not be closed, and its number given to another file, meanwhile. Raises NoSpaceError
    and HostError."""

    def __init__(self, path: Path, record: PartialRecord, file: HashingFile, size_bytes: int) -> None:
        """Use `open_partial`."""
        self.path, self.record, self.size_bytes = path, record, size_bytes
        self._file = file
        self._writer = wrap(file)

    @property
    def sha256(self) -> str:
        """Of everything in the file so far."""
        return self._file.digest.hexdigest()

    async def rehash(self) -> None:
        """Hash what an earlier fetch left in the file; before the first `append`."""
        self._file.digest = await hash_file(self._file, self.path, end=self.size_bytes)

    async def append(self, block: memoryview) -> None:
        """Write all of `block` and hash it, in a thread."""
        with disk_errors(self.path):
            await finish(self._append(block))

    async def _append(self, block: memoryview) -> None:
        while block:
            written = await self._writer.write(block)
            self.size_bytes += written
            block = block[written:]

    async def describe(self, record: PartialRecord) -> None:
        """Remember what the origin says of the package, if a later fetch could use it."""
        self.record = record
        if record.resumable:
            with disk_errors(self.path):
                await finish(asyncio.to_thread(write_record, record_path(self.path), record))

    async def empty(self) -> None:
        """Begin again."""
        with disk_errors(self.path):
            await finish(asyncio.to_thread(self._truncate))
        self._file.digest, self.size_bytes = hashlib.sha256(), 0

    def _truncate(self) -> None:
        os.ftruncate(self._file.fileno(), 0)
        self._file.seek(0)

    def take(self) -> BinaryIO:
        """Hand the open file over; its names stay and are the caller's."""
        return self._file

    async def keep(self) -> None:
        """Close the file and leave it for a later fetch."""
        self._file.close()

    async def discard(self) -> None:
        """Close and remove the file."""
        self._file.close()
        await finish(asyncio.to_thread(remove_partial, self.path))


def record_path(partial: Path) -> Path:
    """Where the record of `partial` is."""
    return partial.with_name(partial.name.removesuffix(SUFFIX) + RECORD_SUFFIX)


def remove_partial(path: Path) -> None:
    """Remove a partial file and its record. Blocks. Safe to repeat."""
    with disk_errors(path):
        path.unlink(missing_ok=True)  # first: a record alone is never believed
        record_path(path).unlink(missing_ok=True)


def open_partial(path: Path, record: PartialRecord) -> PartialFile:
    """Open what an earlier fetch of the same package left at `path`, or a new file. Blocks.

    What is found must be rehashed before it grows."""
    with disk_errors(path):
        found = read_record(record_path(path))
        if found is not None and (found.url, found.sha256) == (record.url, record.sha256):
            with suppress(OSError):  # a link, a directory, gone: what is there is no file of ours
                return _reopen(path, found)
        remove_partial(path)
        fd = os.open(path, _FLAGS | os.O_CREAT | os.O_EXCL, 0o600)
        return PartialFile(path, record, HashingFile(fd), 0)


def _reopen(path: Path, record: PartialRecord) -> PartialFile:
    fd = os.open(path, _FLAGS)
    file = HashingFile(fd)
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        file.close()
        raise FileNotFoundError
    size_bytes = status.st_size
    if record.length_bytes is not None:
        # One byte at least is asked for again: only the origin can tell that the package is still the same.
        size_bytes = max(0, min(size_bytes, record.length_bytes - 1))
    os.ftruncate(fd, size_bytes)
    file.seek(size_bytes)
    return PartialFile(path, record, file, size_bytes)


async def hash_file(file: BinaryIO, path: Path, *, end: int) -> "hashlib._Hash":
    """The SHA-256 of the first `end` bytes of `file`, read through its descriptor; its position stays.

    Safe to cancel. Raises HostError about `path`."""
    digest = hashlib.sha256()
    for start in range(0, end, _SLICE_BYTES):
        stop = min(end, start + _SLICE_BYTES)
        with disk_errors(path):
            await finish(asyncio.to_thread(_hash_slice, digest, file.fileno(), start, stop))
    return digest


def _hash_slice(digest: "hashlib._Hash", fd: int, start: int, stop: int) -> None:
    while start < stop:
        block = os.pread(fd, min(_READ_BYTES, stop - start), start)
        if not block:
            raise OSError(None, "the file became shorter while it was read")
        digest.update(block)
        start += len(block)
