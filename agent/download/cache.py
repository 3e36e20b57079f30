"""Complete packages on this host, known by their digest and kept within a budget of bytes.

What is kept is never believed: it is hashed again, through the descriptor that is handed out, before use."""

import asyncio
import os
import re
import stat
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from agent.download.package import Download
from agent.download.partial import RECORD_SUFFIX, SUFFIX, PartialFile, hash_file, record_path, remove_partial
from agent.download.record import read_record
from agent.errors import HostError, NoSpaceError, disk_errors
from agent.finish import finish
from shared.clock import Clock

PACKAGE_SUFFIX: Final = ".package"
PARTIAL_MAX_AGE_S: Final = 24 * 3600.0
_NAME: Final = re.compile(r"(?P<sha256>[0-9a-f]{64})\.package")


class PackageCache:
    """The files of one directory that end in `.package`. Its methods may be called from any thread."""

    def __init__(self, directory: Path, *, budget_bytes: int, clock: Clock) -> None:
        self._directory, self._budget_bytes, self._clock = directory, budget_bytes, clock
        self._in_use: Counter[str] = Counter()
        self._partials: set[Path] = set()
        self._lock = threading.Lock()

    async def find(self, sha256: str) -> Download | None:
        """Return the package of this digest, hashed again; None if there is none. A damaged one is removed.

        Safe to cancel. Raises HostError."""
        path = self._directory / f"{sha256}{PACKAGE_SUFFIX}"
        try:
            file = await finish(asyncio.to_thread(self._open, path))
        except OSError:
            return None  # not there, or not to be used: the origin has it
        size = os.fstat(file.fileno()).st_size
        found = self._hold(file, path, sha256, size)
        try:
            digest = await hash_file(file, path, end=size)
            if digest.hexdigest() == sha256:
                await finish(asyncio.to_thread(self._touch, path))
                return found
            await finish(asyncio.to_thread(path.unlink, missing_ok=True))
        except BaseException:
            found.close()
            raise
        found.close()
        return None

    async def store(self, whole: PartialFile, *, keep: bool) -> Download:
        """Take over a complete file. With `keep` it stays for others within the budget; without, or when it
        is larger than all of that, it has no name any more and ends with its last descriptor."""
        file, sha256, size = whole.take(), whole.sha256, whole.size_bytes
        path = self._directory / f"{sha256}{PACKAGE_SUFFIX}"
        stored = self._hold(file, path, sha256, size)
        try:
            await finish(
                asyncio.to_thread(self._settle, whole.path, path, keep and size <= self._budget_bytes)
            )
        except BaseException:
            stored.close()
            await finish(asyncio.to_thread(_remove_if_possible, whole.path))
            raise
        file.seek(0)
        return stored

    def lend(self, package: Download) -> Download:
        """The same file with a descriptor of its own. Raises HostError.

        Not by its name, which somebody else may have put on another file meanwhile (S7)."""
        with disk_errors(package.path):
            fd = os.open(f"/proc/self/fd/{package.file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
        file = os.fdopen(fd, "rb", buffering=0)
        return self._hold(file, package.path, package.sha256, package.size_bytes)

    def _hold(self, file: BinaryIO, path: Path, sha256: str, size_bytes: int) -> Download:
        """As long as somebody holds it, it is not evicted."""
        with self._lock:
            self._in_use[sha256] += 1
        return Download(file, path, sha256, size_bytes, partial(self._release, sha256))

    def _release(self, sha256: str) -> None:
        with self._lock:
            self._in_use[sha256] -= 1
            self._evict(self._budget_bytes)

    def claim_partial(self, path: Path) -> None:
        """A download works on `path`; it is not to be removed until `release_partial`."""
        self._partials.add(path)

    def release_partial(self, path: Path) -> None:
        """Undo `claim_partial`."""
        self._partials.discard(path)

    def make_room(self, wanted_bytes: int) -> None:
        """Remove packages that nobody uses, then partial files that nobody works on, oldest first, until
        `wanted_bytes` are free or nothing is left to remove. Blocks."""
        with self._lock:
            wanted_bytes -= self._evict(max(0, self._kept_bytes() - wanted_bytes))
            for path, status in sorted(self._files(SUFFIX), key=_age):
                if wanted_bytes <= 0:
                    break
                if path not in self._partials:
                    remove_partial(path)
                    wanted_bytes -= status.st_size

    def tidy(self) -> None:
        """Make the directory, and remove what a dead agent left and nobody can or will go on with. Blocks.

        Raises NoSpaceError, HostError."""
        with disk_errors(self._directory), self._lock:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            oldest = self._clock.now().timestamp() - PARTIAL_MAX_AGE_S
            for path, status in self._files(SUFFIX):
                record = read_record(record_path(path))
                usable = record is not None and record.resumable and status.st_mtime >= oldest
                if not usable and path not in self._partials:
                    remove_partial(path)
            for ending in (RECORD_SUFFIX, f"{RECORD_SUFFIX}.new"):
                for path, _ in self._files(ending):
                    beside = path.with_name(path.name.removesuffix(ending) + SUFFIX)
                    if beside not in self._partials and not beside.exists():
                        path.unlink(missing_ok=True)
            self._evict(self._budget_bytes)

    def _open(self, path: Path) -> BinaryIO:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        file = os.fdopen(fd, "rb", buffering=0)
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            file.close()
            raise OSError(None, "it is no file")
        return file

    def _settle(self, whole: Path, path: Path, keep: bool) -> None:
        with disk_errors(whole), self._lock:
            if keep:
                os.chmod(whole, 0o400)
                os.rename(whole, path)
                self._touch(path)
            remove_partial(whole)
            self._evict(self._budget_bytes)

    def _touch(self, path: Path) -> None:
        """Order of use is the files' own times, so that it outlives the agent."""
        at = int(self._clock.now().timestamp() * 1_000_000_000)
        try:
            os.utime(path, ns=(at, at))
        except FileNotFoundError:
            return  # removed by hand meanwhile: the descriptor is what counts

    def _evict(self, budget_bytes: int) -> int:
        """Remove the least recently used packages until the rest fits; returns the bytes removed."""
        kept = sorted(self._files(PACKAGE_SUFFIX), key=_age)
        total, removed = sum(status.st_size for _, status in kept), 0
        for path, status in kept:
            if total - removed <= budget_bytes:
                break
            if not self._in_use[path.name.removesuffix(PACKAGE_SUFFIX)]:
                path.unlink(missing_ok=True)
                removed += status.st_size
        return removed

    def _kept_bytes(self) -> int:
        return sum(status.st_size for _, status in self._files(PACKAGE_SUFFIX))

    def _files(self, ending: str) -> Iterator[tuple[Path, os.stat_result]]:
        """Regular files that are ours by their name; others in the directory are left alone."""
        for path in list(self._directory.glob(f"*{ending}")):
            if ending == PACKAGE_SUFFIX and _NAME.fullmatch(path.name) is None:
                continue
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if stat.S_ISREG(status.st_mode):
                yield path, status


def _remove_if_possible(path: Path) -> None:
    """For after an error, which is the one to tell; the next start tries again."""
    with suppress(NoSpaceError, HostError):
        remove_partial(path)


def _age(one: tuple[Path, os.stat_result]) -> tuple[int, str]:
    path, status = one
    return status.st_mtime_ns, path.name
