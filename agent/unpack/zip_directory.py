"""The directory at the end of a zip archive: what it lists, held to one reading before anything is made."""

import os
import zlib
from array import array
from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from agent.unpack.entry import Kind
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError, show
from agent.unpack.zip_fields import (
    END,
    END_SIGNATURE,
    LISTED,
    LISTED_SIGNATURE,
    LOCATOR,
    LOCATOR_SIGNATURE,
    MAX_16,
    MAX_32,
    UNICODE_PATH,
    WIDE_END,
    WIDE_END_SIGNATURE,
    read_extra,
    widen,
)

STORED: Final = 0
DEFLATED: Final = 8
_UTF_8: Final = 1 << 11
_ENCRYPTED: Final = 1 << 0 | 1 << 6 | 1 << 13
_PATCH: Final = 1 << 5
_UNIX: Final = 3
_FILE_TYPES: Final = {0: None, 0o100000: Kind.FILE, 0o040000: Kind.DIRECTORY, 0o120000: Kind.SYMLINK}
_SPECIAL_TYPES: Final = (0o010000, 0o020000, 0o060000, 0o140000)
_MOST_RATIO: Final = 1_032  # deflate can do no better

"".encode("cp437")  # loads the codec, which could not be read any more inside the sandbox


class Listed(NamedTuple):
    """One entry as the directory has it. `offset` is where its own header begins."""

    raw_name: bytes
    name: str
    kind: Kind
    executable: bool
    flags: int
    method: int
    crc32: int
    packed_bytes: int
    size_bytes: int
    offset: int


class _Directory(NamedTuple):
    start: int
    end: int
    entries: int


def list_entries(fd: int, limits: Limits) -> Iterator[tuple[Listed, int]]:
    """Yield what is listed in the order of the archive, and where the next entry, or the directory, begins.

    Raises RefusedError.
    """
    directory = _find_directory(fd)
    if directory.entries > limits.entries:
        raise RefusedError(f"it holds more than {limits.entries} entries")
    reader = _DirectoryReader(fd, directory)
    # Offsets first: writers need not list in order. Two numbers for each entry are all that is kept.
    places = array("Q")
    for at, listed in reader.read_all():
        places.append(listed.offset)
        places.append(at)
    if not places:
        if directory.start:
            raise RefusedError("there is something in front of its directory, which lists nothing")
        return
    order = sorted(range(0, len(places), 2), key=places.__getitem__)
    for index, place in enumerate(order):
        following = places[order[index + 1]] if index + 1 < len(order) else directory.start
        yield reader.read(places[place + 1])[0], following


def _find_directory(fd: int) -> _Directory:
    """Read the end record, which must end the file, and its ZIP64 form."""
    size = os.fstat(fd).st_size
    tail_at = max(0, size - END.size - MAX_16)
    tail = os.pread(fd, size - tail_at, tail_at)
    at = tail.rfind(END_SIGNATURE)
    if at < 0 or len(tail) - at < END.size:
        raise RefusedError("it is cut off: the end record of the zip archive is missing")
    _, disk, first_disk, here, entries, length, start, comment = END.unpack_from(tail, at)
    behind = at + END.size + comment
    if behind > len(tail) or tail[behind:].strip(b"\0"):  # bsdtar fills its last block for a pipe with zeros
        raise RefusedError("its last end record does not end with the file")
    if (disk, first_disk) not in ((0, 0), (MAX_16, MAX_16), (0, MAX_16), (MAX_16, 0)) or here != entries:
        raise RefusedError("it is a part of a split zip archive")
    end = tail_at + at
    locator = os.pread(fd, LOCATOR.size, end - LOCATOR.size) if end >= LOCATOR.size else b""
    if locator.startswith(LOCATOR_SIGNATURE):
        wide = _wide_directory(fd, end - LOCATOR.size, locator)
        for narrow, true, full in (
            (entries, wide.entries, MAX_16),
            (length, wide.end - wide.start, MAX_32),
            (start, wide.start, MAX_32),
        ):
            if narrow not in (true, full):
                raise RefusedError("its two end records say different things")
        return wide
    return _placed(start, length, entries, end)


def _wide_directory(fd: int, locator_at: int, locator: bytes) -> _Directory:
    _, disk, at, disks = LOCATOR.unpack(locator)
    record = os.pread(fd, WIDE_END.size, at) if at + WIDE_END.size == locator_at else b""
    if not record.startswith(WIDE_END_SIGNATURE) or disk or disks > 1:
        raise RefusedError("its ZIP64 end record is not where it must be")
    _, length, _, _, disk, first_disk, here, entries, directory_bytes, start = WIDE_END.unpack(record)
    if length != WIDE_END.size - 12 or disk or first_disk or here != entries:
        raise RefusedError("its ZIP64 end record is of a kind that is not accepted")
    return _placed(start, directory_bytes, entries, at)


def _placed(start: int, length: int, entries: int, end: int) -> _Directory:
    if start + length != end:
        raise RefusedError("its directory does not lie where the end record says")
    return _Directory(start, end, entries)


class _DirectoryReader:
    """Reads records of the directory, through a window."""

    _WINDOW_BYTES: Final = 256 * 1024

    def __init__(self, fd: int, directory: _Directory) -> None:
        self._fd, self._directory = fd, directory
        self._window_at, self._window = 0, b""

    def read_all(self) -> Iterator[tuple[int, Listed]]:
        """Yield each record with its position; they must fill the directory exactly."""
        at = self._directory.start
        for _ in range(self._directory.entries):
            listed, end = self.read(at)
            yield at, listed
            at = end
        if at != self._directory.end:
            raise RefusedError("there is something behind the last entry of its directory")

    def read(self, at: int) -> tuple[Listed, int]:
        """Return the record at `at` and where the next one begins."""
        fixed = self._slice(at, LISTED.size)
        (
            signature, made_by, _, flags, method, _, _, crc32, packed, size,
            name_bytes, extra_bytes, comment_bytes, disk, _, attributes, offset,
        ) = LISTED.unpack(fixed)  # fmt: skip
        if signature != LISTED_SIGNATURE:
            raise RefusedError("its directory is damaged")
        rest = self._slice(at + LISTED.size, name_bytes + extra_bytes + comment_bytes)
        raw_name = rest[:name_bytes]
        extra = read_extra(rest[name_bytes : name_bytes + extra_bytes])
        size, packed, offset = widen(extra, (size, packed, offset))
        name = _decode_name(raw_name, flags, made_by >> 8, extra)
        if disk not in (0, MAX_16):
            raise RefusedError("it is a part of a split zip archive")
        _check_method(name, flags, method, packed, size)
        kind, executable = _judge(name, made_by >> 8, attributes >> 16, size)
        listed = Listed(raw_name, name, kind, executable, flags, method, crc32, packed, size, offset)
        return listed, at + LISTED.size + len(rest)

    def _slice(self, at: int, length: int) -> bytes:
        if at + length > self._directory.end:
            raise RefusedError("its directory is cut off")
        begin = at - self._window_at
        if begin < 0 or begin + length > len(self._window):
            self._window_at, begin = at, 0
            wanted = min(max(length, self._WINDOW_BYTES), self._directory.end - at)
            self._window = os.pread(self._fd, wanted, at)
        return self._window[begin : begin + length]


def _decode_name(raw: bytes, flags: int, host: int, extra: Mapping[int, bytes]) -> str:
    """UTF-8 where the entry says so or nothing else makes sense; code page 437 otherwise (appendix D)."""
    try:
        if raw.isascii():
            name = raw.decode("ascii")
        elif flags & _UTF_8:
            name = raw.decode("utf-8")
        elif host == _UNIX:  # zip(1) and macOS write the bytes of the file name
            name = _decode_unix(raw)
        else:
            name = raw.decode("cp437")
    except UnicodeDecodeError as exc:
        raise RefusedError(f"the name {show(raw)} is not UTF-8") from exc
    told = extra.get(UNICODE_PATH, b"")
    if told[:1] == b"\x01" and int.from_bytes(told[1:5], "little") == zlib.crc32(raw):
        other = told[5:].decode("utf-8", "replace")
        if other != name and raw.isascii():
            raise RefusedError(f"the entry {show(name)} has a second name, {show(other)}")
        name = other
    return name


def _decode_unix(raw: bytes) -> str:
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("cp437")


def _check_method(name: str, flags: int, method: int, packed: int, size: int) -> None:
    if flags & _ENCRYPTED:
        raise RefusedError(f"the entry {show(name)} is encrypted")
    if flags & _PATCH or method not in (STORED, DEFLATED):
        raise RefusedError(f"the entry {show(name)} is packed by the method {method}, which is not accepted")
    if method == STORED and packed != size:
        raise RefusedError(f"the entry {show(name)} has two sizes")
    if size > packed * _MOST_RATIO:
        raise RefusedError(f"the entry {show(name)} claims more than {_MOST_RATIO} times its size")


def _judge(name: str, host: int, mode: int, size: int) -> tuple[Kind, bool]:
    """Return what an entry is. As in unzip, only its own system's mode counts, and "/" at the end of the name
    makes a directory."""
    file_type = mode & 0o170000
    if file_type in _SPECIAL_TYPES or (host != _UNIX and file_type == 0o120000):
        raise RefusedError(f"the entry {show(name)} is marked as a special file")
    stated = _FILE_TYPES.get(file_type) if host == _UNIX else None
    if name.endswith("/"):
        if stated is Kind.SYMLINK or size:
            raise RefusedError(f"the entry {show(name)} is named like a directory and is none")
        return Kind.DIRECTORY, False
    if stated is Kind.DIRECTORY:
        raise RefusedError(f"the entry {show(name)} is a directory but not named like one")
    if name.endswith("/."):
        raise RefusedError(f"the entry {show(name)} is named like a directory and is none")
    return stated or Kind.FILE, host == _UNIX and bool(mode & 0o111)
