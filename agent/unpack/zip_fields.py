"""The fixed records of a zip archive and its extra fields (APPNOTE.TXT 4.3, 4.5). All is little-endian."""

import struct
from collections.abc import Mapping
from typing import Final

from agent.unpack.refusal import RefusedError

LOCAL_SIGNATURE: Final = b"PK\x03\x04"
LISTED_SIGNATURE: Final = b"PK\x01\x02"
END_SIGNATURE: Final = b"PK\x05\x06"
WIDE_END_SIGNATURE: Final = b"PK\x06\x06"
LOCATOR_SIGNATURE: Final = b"PK\x06\x07"

LOCAL: Final = struct.Struct("<4sHHHHHIIIHH")
LISTED: Final = struct.Struct("<4sHHHHHHIIIHHHHHII")
END: Final = struct.Struct("<4sHHHHIIH")
WIDE_END: Final = struct.Struct("<4sQHHIIQQQQ")
LOCATOR: Final = struct.Struct("<4sIQI")

MAX_16: Final = 0xFFFF
MAX_32: Final = 0xFFFFFFFF
_WIDE: Final = 0x0001
UNICODE_PATH: Final = 0x7075


def read_extra(data: bytes) -> Mapping[int, bytes]:
    """Return the extra fields by their ids. Up to three zeros behind the last one are padding (zipalign).

    Raises RefusedError for broken ones, and for two of those that change what an entry is.
    """
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(data):
        kind, length = struct.unpack_from("<HH", data, at)
        at += 4
        if at + length > len(data):
            raise RefusedError("an extra field is damaged")
        if kind in (_WIDE, UNICODE_PATH) and kind in found:
            raise RefusedError("an extra field is there twice")
        found[kind] = data[at : at + length]
        at += length
    if data[at:].strip(b"\0"):
        raise RefusedError("an extra field is damaged")
    return found


def widen(extra: Mapping[int, bytes], numbers: tuple[int, ...]) -> tuple[int, ...]:
    """Take the numbers that are full (0xFFFFFFFF) from the ZIP64 field, in its order (4.5.3).

    Raises RefusedError where a number is full and the field does not have it; a header that leaves sizes to
    a descriptor may write them full without one, which the caller sees as MAX_32.
    """
    wide = extra.get(_WIDE)
    if wide is None:
        return numbers
    if len(wide) % 8 not in (0, 4):  # four bytes: the number of a disk, which must not be
        raise RefusedError("a ZIP64 field is damaged")
    taken = []
    at = 0
    for number in numbers:
        if number == MAX_32:
            if at + 8 > len(wide):
                raise RefusedError("a ZIP64 field is too short")
            number = int.from_bytes(wide[at : at + 8], "little")  # noqa: PLW2901
            at += 8
        taken.append(number)
    return tuple(taken)
