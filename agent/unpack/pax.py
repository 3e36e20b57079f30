"""Extended tar headers: pax records (POSIX.1-2017, pax, "pax Extended Header") and GNU long names."""

from typing import Final

from agent.unpack.refusal import RefusedError, show

MAX_HEADER_BYTES: Final = 64 * 1024
_MEANT: Final = frozenset({b"path", b"linkpath", b"size"})
_SPARSE: Final = b"GNU.sparse."


def parse_records(data: bytes, *, is_global: bool) -> dict[bytes, bytes]:
    """Return the records that say what an entry is: path, linkpath, size. All others are checked and dropped.

    A global header may hold none of them: it would rename or resize every entry behind it.
    """
    meant: dict[bytes, bytes] = {}
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space > 0 else b""
        if not digits.isdigit():
            raise RefusedError("an extended header is damaged")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end <= space + 1 or end > len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise RefusedError("an extended header is damaged")
        at = end
        if key.startswith(_SPARSE):
            raise RefusedError("it holds a sparse file")
        if key not in _MEANT:
            continue
        if is_global:
            raise RefusedError(f"a global header sets {show(key)} for all entries")
        if key in meant or not value or b"\0" in value:
            raise RefusedError(f"an extended header sets {show(key)} twice, to nothing or to a broken value")
        meant[key] = value
    return meant


def parse_size(value: bytes) -> int:
    """Return the value of a pax `size` record, in bytes."""
    if not value.isdigit() or len(value) > 18:
        raise RefusedError(f"an extended header holds the size {show(value)}")
    return int(value)


def parse_long_name(data: bytes) -> bytes:
    """Return the name that a GNU long-name entry (type L or K) holds, which ends at its first NUL."""
    name, _, rest = data.partition(b"\0")
    if rest.strip(b"\0"):
        raise RefusedError(f"the long name {show(name)} has something behind its end")
    if not name:
        raise RefusedError("a long name is empty")
    return name
