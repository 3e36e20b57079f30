"""A strict zip reader (APPNOTE.TXT 6.3): entries lie one behind the other from the first byte to the
directory, and the directory says of each what its own header says. So nothing overlaps, hides or has two
readings.
"""

import os
import struct
from collections.abc import Iterator
from typing import BinaryIO, Final, NamedTuple

from agent.unpack.entry import Entry, Kind
from agent.unpack.inflate import InflateError, crc32, start_deflate
from agent.unpack.limits import Limits
from agent.unpack.names import check_path, check_text
from agent.unpack.refusal import RefusedError, show
from agent.unpack.source import Gauge
from agent.unpack.zip_directory import DEFLATED, Listed, list_entries
from agent.unpack.zip_fields import LOCAL, LOCAL_SIGNATURE, MAX_32, read_extra, widen

_READ_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 1024 * 1024
_MOST_TARGET_BYTES: Final = 4096
_DESCRIPTOR_SIGNATURE: Final = b"PK\x07\x08"
_MOST_DESCRIPTOR_BYTES: Final = 24
_HAS_DESCRIPTOR: Final = 1 << 3
_SAME_FLAGS: Final = 1 << 0 | 1 << 6 | 1 << 11 | 1 << 13  # encryption and the encoding of the name


class _Place(NamedTuple):
    """Where the compressed content of an entry lies, and where the next entry must begin."""

    start: int
    end: int
    next: int
    has_descriptor: bool


class ZipReader:
    """Reads `package`, which must be a file with positions; see agent.unpack.entry.Reader."""

    def __init__(self, package: BinaryIO, limits: Limits) -> None:
        self._fd, self._limits = package.fileno(), limits
        self._gauge = Gauge(limits)
        self._current: tuple[Listed, _Place] | None = None

    def __iter__(self) -> Iterator[Entry]:
        expected = 0
        for listed, following in list_entries(self._fd, self._limits):
            if listed.offset != expected:
                raise RefusedError(
                    f"the entry {show(listed.raw_name)} does not begin where the one before ends"
                )
            place = self._find(listed, following)
            self._current = (listed, place)
            yield self._entry(listed)
            if self._current is not None:  # a directory, or a name that was there already
                self._expect_nothing(listed, place)
            self._check_descriptor(listed, place)
            expected = following

    def content(self, entry: Entry) -> Iterator[memoryview]:
        """See agent.unpack.entry.Reader."""
        assert self._current is not None
        listed, place = self._current
        self._current = None
        found = check_sum = 0
        for block in self._decompress(listed, place):
            found += len(block)
            if found > listed.size_bytes:
                raise RefusedError(f"the entry {show(entry.path)} holds more than it says")
            check_sum = crc32(block, check_sum)
            yield memoryview(block)
        if found != listed.size_bytes:
            raise RefusedError(f"the entry {show(entry.path)} holds less than it says")
        if check_sum != listed.crc32:
            raise RefusedError(f"the check sum of {show(entry.path)} is wrong")

    def _entry(self, listed: Listed) -> Entry:
        path = check_path(check_text(listed.name.encode(), "name"), depth=self._limits.depth)
        match listed.kind:
            case Kind.SYMLINK:
                if listed.size_bytes > _MOST_TARGET_BYTES:
                    raise RefusedError(f"the target of the link {show(path)} is too long")
                target = b"".join(self.content(Entry(Kind.SYMLINK, path)))
                return Entry(Kind.SYMLINK, path, target=check_text(target, "link target"))
            case Kind.DIRECTORY:
                return Entry(Kind.DIRECTORY, path)
            case _:
                return Entry(Kind.FILE, path, listed.size_bytes, executable=listed.executable)

    def _find(self, listed: Listed, following: int) -> _Place:
        """Read the local header, which must say the same."""
        name = show(listed.raw_name)
        header = self._read(listed.offset, LOCAL.size)
        if len(header) < LOCAL.size or not header.startswith(LOCAL_SIGNATURE):
            raise RefusedError(f"the entry {name} is not where the directory says")
        _, _, flags, method, _, _, check_sum, packed, size, name_bytes, extra_bytes = LOCAL.unpack(header)
        rest = self._read(listed.offset + LOCAL.size, name_bytes + extra_bytes)
        extra = read_extra(rest[name_bytes:])
        size, packed = widen(extra, (size, packed))
        later = bool(flags & _HAS_DESCRIPTOR)
        start = listed.offset + LOCAL.size + name_bytes + extra_bytes
        end = start + listed.packed_bytes
        if (
            rest[:name_bytes] != listed.raw_name
            or method != listed.method
            or (flags ^ listed.flags) & _SAME_FLAGS
            or not _agrees(check_sum, listed.crc32, later=later)
            or not _agrees(size, listed.size_bytes, later=later)
            or not _agrees(packed, listed.packed_bytes, later=later)
        ):
            raise RefusedError(f"the entry {name} and the directory say different things")
        if end > following or (end != following and not later):
            raise RefusedError(f"the entry {name} does not end where the next one begins")
        return _Place(start, end, following, later)

    def _decompress(self, listed: Listed, place: _Place) -> Iterator[bytes]:
        if listed.method != DEFLATED:
            for at in range(place.start, place.end, _BLOCK_BYTES):
                yield self._read_exact(at, min(_BLOCK_BYTES, place.end - at))
            return
        if not listed.packed_bytes and not listed.size_bytes:
            return  # some writers call nothing at all deflated
        inflate = start_deflate()
        at = place.start
        while not inflate.eof:
            data = b""
            if inflate.needs_input:
                data = self._read_exact(at, min(_READ_BYTES, place.end - at))
                at += len(data)
                self._gauge.in_bytes += len(data)
            try:
                block = inflate.decompress(data, _BLOCK_BYTES)
            except InflateError as exc:
                raise RefusedError(f"the content of {show(listed.name)} is damaged ({exc})") from exc
            if block:
                self._gauge.count(len(block))
                yield block
            elif not data and not inflate.eof:
                raise RefusedError(f"the content of {show(listed.name)} is cut off")
        if inflate.unused_data or at != place.end:
            raise RefusedError(f"there is something behind the content of {show(listed.name)}")

    def _expect_nothing(self, listed: Listed, place: _Place) -> None:
        """Some writers deflate the nothing that a directory holds: two bytes."""
        if listed.crc32 or any(self._decompress(listed, place)):
            raise RefusedError(f"the directory {show(listed.name)} holds something")

    def _check_descriptor(self, listed: Listed, place: _Place) -> None:
        """What follows the content where its sizes were not known before (4.3.9)."""
        if not place.has_descriptor:
            return
        found = self._read(place.end, min(place.next - place.end, _MOST_DESCRIPTOR_BYTES + 1))
        sizes = (listed.packed_bytes, listed.size_bytes)
        forms = [struct.pack("<IQQ", listed.crc32, *sizes)]
        if max(sizes) <= MAX_32:
            forms.append(struct.pack("<III", listed.crc32, *sizes))
        if found.removeprefix(_DESCRIPTOR_SIGNATURE) not in forms and found not in forms:
            raise RefusedError(f"what follows the content of {show(listed.name)} says something else of it")

    def _read(self, at: int, length: int) -> bytes:
        return os.pread(self._fd, length, at)

    def _read_exact(self, at: int, length: int) -> bytes:
        data = self._read(at, length)
        if len(data) < length:
            raise RefusedError("it became shorter while it was read")
        return data


def _agrees(local: int, listed: int, *, later: bool) -> bool:
    """A header written before the content may leave out what it did not know."""
    return local == listed or (later and local in (0, MAX_32))
