"""A strict tar reader: v7, ustar, GNU and pax, as long as all tools would read the same out of it.

Strict about danger, not about taste: what GNU tar, bsdtar, BusyBox, git archive, Python and npm write is
accepted. What two tools could read in two ways, and what could not be an ordinary file, directory or link,
is refused.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Final

from agent.unpack import pax
from agent.unpack.entry import Entry, Kind
from agent.unpack.limits import Limits
from agent.unpack.names import check_text, parse_path
from agent.unpack.refusal import RefusedError, show
from agent.unpack.stream import Stream

BLOCK: Final = 512
_ZERO_BLOCK: Final = bytes(BLOCK)
_MAX_EXTENDED: Final = 8  # extended headers in a row
_MAX_END_BYTES: Final = 16 * 1024 * 1024  # padding to the writer's record size, whatever its blocking factor
_OCTAL_SIZE_MAX: Final = 8**11 - 1  # what the size field can say in digits
_SPECIAL: Final = {
    b"3": "a character device", b"4": "a block device", b"6": "a FIFO", b"S": "a sparse file",
    b"M": "a part of a multi-volume archive", b"D": "a GNU incremental directory",
}  # fmt: skip
_FILE_TYPES: Final = (b"0", b"\0", b"7")  # 7: contiguous; read as a plain file by everybody
_LONG_TYPES: Final = {b"L": b"path", b"K": b"linkpath"}
_PLAIN: Final = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+@=~, "  # of names


class TarReader:
    """Reads a decompressed tar archive; see agent.unpack.entry.Reader."""

    def __init__(self, stream: Stream, limits: Limits) -> None:
        self._stream, self._limits = stream, limits
        self._extended_bytes = 0
        self._last = _NO_HEADER

    def content(self, entry: Entry) -> Iterable[memoryview]:
        """See agent.unpack.entry.Reader."""
        return self._stream.chunks(entry.size_bytes, "a file's content")

    def __iter__(self) -> Iterator[Entry]:
        extended: dict[bytes, bytes] = {}
        in_a_row = padding = 0
        while True:
            header = self._stream.read_behind(padding, BLOCK)
            if header is None:
                self._skip_padding(padding)
                header = self._stream.read_optional(BLOCK, "a header")
            padding = 0
            if not in_a_row and (alike := self._last.read_alike(header)) is not None:
                yield alike
                padding = -alike.size_bytes % BLOCK
                continue
            if not header:
                raise RefusedError("it is cut off: the end mark is missing")
            if header == _ZERO_BLOCK:
                break
            _check_sum(header)
            kind = header[156:157]
            if kind in b"xgLK":
                in_a_row += 1
                if in_a_row > _MAX_EXTENDED:
                    raise RefusedError(f"more than {_MAX_EXTENDED} extended headers follow each other")
                self._read_extended(header, kind, extended)
                continue
            if kind == b"V":  # a volume label: a name for the tape, nothing to unpack
                if extended:
                    raise RefusedError("an extended header stands before a volume label")
                continue
            entry = self._entry(header, kind, extended)
            self._last = _NO_HEADER if extended else PlainHeader(header, entry)
            extended, in_a_row = {}, 0
            yield entry
            padding = -entry.size_bytes % BLOCK
        if extended:
            raise RefusedError("it ends after an extended header")
        self._stream.expect_zeros(_MAX_END_BYTES)

    def _skip_padding(self, padding: int) -> None:
        if padding and not self._stream.skip_zeros(padding, "padding"):
            raise RefusedError("there is something in the padding behind a file")

    def _read_extended(self, header: bytes, kind: bytes, extended: dict[bytes, bytes]) -> None:
        size = _number(header[124:136], "size")
        self._extended_bytes += size
        if size > pax.MAX_HEADER_BYTES or self._extended_bytes > self._limits.total_bytes:
            raise RefusedError(f"an extended header of {size} bytes is too large")
        data = self._stream.read_exact(size, "an extended header")
        self._skip_padding(-size % BLOCK)
        if kind in _LONG_TYPES:
            found = {_LONG_TYPES[kind]: pax.parse_long_name(data)}
        else:
            found = pax.parse_records(data, is_global=kind == b"g")
        for key, value in found.items():
            if extended.setdefault(key, value) != value:
                raise RefusedError(f"extended headers set {show(key)} to two values")

    def _entry(self, header: bytes, kind: bytes, extended: dict[bytes, bytes]) -> Entry:
        name = extended.get(b"path") or _name(header)
        size = _number(header[124:136], "size")
        if b"size" in extended:
            stated = pax.parse_size(extended[b"size"])
            if stated != size and stated <= _OCTAL_SIZE_MAX:
                raise RefusedError(f"the entry {show(name)} has two sizes")
            size = stated
        path = parse_path(name, depth=self._limits.depth)
        if b"linkpath" in extended and kind not in b"12":
            raise RefusedError(f"the entry {show(name)} is no link but has a link target")
        if kind in _FILE_TYPES and not name.endswith((b"/", b"/.")):
            return Entry(Kind.FILE, path, size, executable=bool(_number(header[100:108], "mode") & 0o111))
        if kind in _SPECIAL:
            raise RefusedError(f"the entry {show(name)} is {_SPECIAL[kind]}")
        if size:
            raise RefusedError(f"the entry {show(name)} is no file but has {size} bytes of content")
        if (
            kind == b"5" or kind in _FILE_TYPES
        ):  # a file with "/" at its end: how tar before ustar wrote directories
            return Entry(Kind.DIRECTORY, path)
        if kind in (b"1", b"2"):
            return self._link(name, kind, path, extended.get(b"linkpath") or _text(header[157:257]))
        raise RefusedError(f"the entry {show(name)} is of the unknown type {show(kind)}")

    def _link(self, name: bytes, kind: bytes, path: str, target: bytes) -> Entry:
        if name.endswith((b"/", b"/.")):
            raise RefusedError(f"the link {show(name)} is named like a directory")
        if kind == b"1":
            return Entry(Kind.HARDLINK, path, target=parse_path(target, depth=self._limits.depth))
        return Entry(Kind.SYMLINK, path, target=check_text(target, "link target"))


class PlainHeader:
    """The header of a file, for those after it that differ in name, size, time and check sum alone.

    In most archives these are nearly all, and reading them is most of the time that Python takes for one.
    """

    def __init__(self, header: bytes, entry: Entry | None) -> None:
        """`entry` is what `header` was found to be, without any extended header."""
        is_file = entry is not None and entry.kind is Kind.FILE
        self._owner, self._rest = (header[100:124], header[156:]) if is_file else (b"", b"")
        self._rest_sum = _sum(self._rest) + 8 * 0x20
        self._executable = entry is not None and entry.executable
        field, name, path = _text(header[:100]), _name(header), entry.path if entry is not None else ""
        self._folder, leaf = field[: field.rfind(b"/") + 1], name[name.rfind(b"/") + 1 :]
        self._leaf_at = len(self._folder)
        self._inside = path[: path.rfind("/") + 1]  # what the folder was found to be, with any prefix
        self._is_usual = bool(field) and path[len(self._inside) :].encode() == leaf

    def read_alike(self, header: bytes) -> Entry | None:
        """Return the entry of `header`, None where it asks for a closer look: that says what is wrong."""
        if header[156:] != self._rest or header[100:124] != self._owner or not self._is_usual:
            return None
        if header[148:156] != b"%06o\0 " % (self._rest_sum + _sum(header[:148])):
            return None
        leaf = header[self._leaf_at : header.find(b"\0", self._leaf_at, 100)]
        size = header[124:135]
        if not leaf or leaf[0] == 0x2E or leaf.translate(None, _PLAIN) or not header.startswith(self._folder):
            return None
        if header[135] not in b"\0 " or not size.isdigit():
            return None
        try:
            return Entry(Kind.FILE, self._inside + leaf.decode(), int(size, 8), self._executable)
        except ValueError:  # an 8 or a 9
            return None


def _text(field: bytes) -> bytes:
    return field.partition(b"\0")[0]


def _name(header: bytes) -> bytes:
    name = _text(header[:100])
    # POSIX magic only: GNU and v7 headers keep other things where ustar keeps the prefix.
    if header[257:263] == b"ustar\0" and (prefix := _text(header[345:500])):
        return prefix + b"/" + name
    return name


def _number(field: bytes, what: str) -> int:
    if field[:-1].isdigit() and field[-1] in b"\0 ":  # as nearly everybody writes it
        try:
            return int(field[:-1], 8)
        except ValueError:
            pass  # an 8 or a 9: named below
    if field[0] & 0x80:
        if field[0] != 0x80:
            raise RefusedError(f"a header holds a negative or huge {what}")
        return int.from_bytes(field[1:], "big")
    digits = field.strip(b" \0")
    if not digits:
        return 0
    if digits.strip(b"01234567"):
        raise RefusedError(f"a header holds the {what} {show(digits)}")
    return int(digits, 8)


def _sum(data: bytes) -> int:
    """sum(data), quickly. The lower half of Adler-32 is that sum plus one, modulo 65521 (RFC 1950), and 256
    bytes, or 512 of ASCII, stay below."""
    return (zlib.adler32(data) & 0xFFFF) - 1 if len(data) <= 256 or data.isascii() else sum(data)


def _check_sum(header: bytes) -> None:
    stated = _number(header[148:156], "checksum")
    unsigned = _sum(header) - _sum(header[148:156]) + 8 * 0x20
    if stated == unsigned:
        return
    high = sum(byte >= 0x80 for byte in header[:148] + header[156:])  # some old writers summed signed bytes
    if stated != unsigned - 256 * high:
        raise RefusedError("a header's checksum is wrong")


_NO_HEADER: Final = PlainHeader(bytes(BLOCK), None)  # nothing is like it
