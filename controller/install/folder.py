"""The packages that an operator has put there for hosts."""

import asyncio
import errno
import hashlib
import os
import re
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Final

from shared.files import open_file
from shared.logs import get_log

MAX_PACKAGES: Final = 64
"""What is beyond, by name, is not offered: each is read whole to know its digest."""
MAX_PACKAGE_BYTES: Final = 1 << 30
_FILE: Final = re.compile(
    r"releasehand-daemons_(?P<version>[0-9][A-Za-z0-9.+~-]*\+py(?P<python>3\.[0-9]{1,3}))"
    r"_(?P<architecture>[a-z0-9][a-z0-9-]*)\.deb",
    re.ASCII,
)

log = get_log(__name__)


@dataclass(frozen=True, slots=True)
class Package:
    """One .deb: for which hosts it is, and what they must get."""

    file: str
    version: str
    python: str
    architecture: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class _Stamp:
    """A file that was replaced or written to has another one."""

    inode: int
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> "_Stamp":
        # The time of the last change that nobody can set: rsync and cp -p give a file an older st_mtime.
        return cls(found.st_ino, found.st_size, found.st_ctime_ns)


class PackageFolder:
    """For the event loop; files are read in threads, each once for as long as it stays as it is."""

    def __init__(self, path: Path) -> None:
        """It need not exist."""
        self.path = path
        self._known: dict[str, tuple[_Stamp, Package]] = {}
        self._turn = asyncio.Lock()
        self._told: frozenset[str] = frozenset()

    async def look(self) -> list[Package]:
        """What is there now, by name; empty where the folder is missing or cannot be read."""
        async with self._turn:
            return await asyncio.to_thread(self._read_all)

    async def open(self, file: str) -> tuple[BufferedReader, int] | None:
        """The package of that name and its size in bytes; None if there is none. To be closed by the
        caller."""
        if not _FILE.fullmatch(file):
            return None
        try:
            return await asyncio.to_thread(self._open, file)
        except OSError:
            return None  # `look` tells why

    def _read_all(self) -> list[Package]:
        known: dict[str, tuple[_Stamp, Package]] = {}
        refused: dict[str, str] = {}
        try:
            names = sorted(one.name for one in self.path.iterdir() if one.suffix == ".deb")
        except FileNotFoundError:
            names = []
        except OSError as exc:
            names, refused[str(self.path)] = [], exc.strerror or str(exc)
        for name in names:
            try:
                known[name] = self._read(name, room=len(known) < MAX_PACKAGES)
            except (OSError, ValueError) as exc:
                refused[name] = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
        for name in sorted(refused.keys() - self._told):
            log.warning("package is not offered to hosts", file=name[:256], reason=refused[name])
        self._known, self._told = known, frozenset(refused)
        return [package for _, package in known.values()]

    def _read(self, name: str, *, room: bool) -> tuple[_Stamp, Package]:
        """Raises OSError, and ValueError with why it is not offered."""
        named = _FILE.fullmatch(name)
        if named is None:
            raise ValueError("is not named releasehand-daemons_VERSION+pyPYTHON_ARCHITECTURE.deb")
        if not room:
            raise ValueError(f"is one more than {MAX_PACKAGES}")
        opened = self._open(name)
        if opened is None:
            raise ValueError("is no ordinary file")
        with opened[0] as content:
            stamp = _Stamp.of(os.fstat(content.fileno()))
            if not 0 < stamp.size_bytes <= MAX_PACKAGE_BYTES:
                raise ValueError(f"has {stamp.size_bytes} bytes")
            before = self._known.get(name)
            if before is not None and before[0] == stamp:
                return before
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            if _Stamp.of(os.fstat(content.fileno())) != stamp:
                raise ValueError("is being written")
        package = Package(
            file=name,
            version=named["version"],
            python=named["python"],
            architecture=named["architecture"],
            size_bytes=stamp.size_bytes,
            sha256=digest,
        )
        return stamp, package

    def _open(self, file: str) -> tuple[BufferedReader, int] | None:
        """Raises OSError. What is no ordinary file counts as none: a link could lead anywhere."""
        try:
            content = open_file(self.path / file)
        except OSError as exc:
            if exc.errno in {errno.ENOENT, errno.ELOOP, errno.EINVAL}:
                return None
            raise
        return content, os.fstat(content.fileno()).st_size
