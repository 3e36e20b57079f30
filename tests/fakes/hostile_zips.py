"""Zip archives that must be refused by the limits of hostile_tars.py, each with a part of the reason."""

import os
import struct
from collections.abc import Mapping
from typing import Final

from tests.fakes.zips import (
    FAT,
    MAX_16,
    MAX_32,
    Item,
    deflate,
    describe,
    end,
    unicode_path,
    wide,
    with_wide_end,
    zipped,
)

CONTENT = b"content\n"
A, B = Item(b"a"), Item(b"b")


def in_front(data: bytes, prefix: bytes) -> bytes:
    """`data` behind `prefix`, with all offsets right: a self-extracting archive."""
    _, _, _, _, entries, length, start, _ = struct.unpack("<4sHHHHIIH", data[-22:])
    moved = Item(b"a").list(len(prefix))
    return prefix + data[:start] + moved + end(entries, length, start + len(prefix))


def overlapping() -> bytes:
    """Two names for one content."""
    body = A.encode()
    directory = A.list(0) + B.list(0)
    return body + directory + end(2, len(directory), len(body))


def quoted_overlap(names: int) -> bytes:
    """David Fifield's: each header is quoted by a stored block of the one before."""
    content, body = b"x" * 1000, b""
    listed: list[tuple[Item, int]] = []
    packed = deflate(content)
    for number in reversed(range(names)):
        item = Item(b"%03d" % number, content, packed=packed)
        header = item.encode()[: 30 + 3]
        listed.insert(0, (item, len(header)))
        quote = struct.pack("<BHH", 0, len(header) + len(packed), MAX_16 - len(header) - len(packed))
        body = header + packed + body
        packed = quote + header + packed
    directory, offset = b"", 0
    for item, length in listed:
        directory += item.list(offset)
        offset += length
    return body + directory + end(names, len(directory), len(body))


CORPUS: Final[Mapping[str, tuple[bytes, str]]] = {
    "nothing": (zipped(), "it holds no file"),
    "directories alone": (zipped(Item(b"d/", b"", 0, 0o040755)), "it holds no file"),
    "parent": (zipped(Item(b"../evil")), "leads out of the destination"),
    "absolute": (zipped(Item(b"/tmp/evil")), "is absolute"),
    "drive": (zipped(Item(b"C:\\evil")), "holds a backslash"),
    "backslashes": (zipped(Item(b"..\\evil")), "holds a backslash"),
    "NUL in a name": (zipped(Item(b"a\0b")), "control or format character"),
    "empty name": (zipped(Item(b"")), "a name is empty"),
    "not UTF-8": (zipped(Item(b"\xff\xfe", flags=1 << 11)), "is not UTF-8"),
    "a second name": (zipped(Item(b"a", extra=unicode_path(b"a", "b"))), "has a second name"),
    "a second name that leads out": (
        zipped(Item(b"\x81", extra=unicode_path(b"\x81", "../evil"))),
        "leads out of the destination",
    ),
    "duplicate": (zipped(A, Item(b"a")), "is there twice"),
    "file as directory": (zipped(A, Item(b"a/b")), "is no directory but something is to be put into it"),
    "directory with content": (zipped(Item(b"d/", b"x")), "is named like a directory and is none"),
    "directory not named like one": (zipped(Item(b"d", b"", mode=0o040755)), "but not named like one"),
    "symlink out": (zipped(Item(b"a", b"../evil", mode=0o120777)), "leads out of the destination, to"),
    "symlink absolute": (zipped(Item(b"a", b"/etc/passwd", mode=0o120777)), "leads to the absolute path"),
    "write through symlink": (
        zipped(Item(b"a", b"b", mode=0o120777), Item(b"a/evil")),
        "is no directory but something is to be put",
    ),
    "symlink named as directory": (zipped(Item(b"a/", b"", mode=0o120777)), "is named like a directory"),
    "symlink without end": (zipped(Item(b"a", b"x" * 5000, mode=0o120777)), "is too long"),
    "symlink by a system without": (zipped(Item(b"a", b"b", mode=0o120777, host=FAT)), "as a special file"),
    "FIFO": (zipped(Item(b"a", b"", mode=0o010644)), "as a special file"),
    "device": (zipped(Item(b"a", b"", mode=0o020644)), "as a special file"),
    "overlap": (overlapping(), "does not end where the next one begins"),
    "overlap of equals": (
        A.encode() + A.list(0) * 2 + end(2, 2 * len(A.list(0)), len(A.encode())),
        "does not end where the next",
    ),
    "quoted overlap": (quoted_overlap(5), "does not end where the next one"),
    "gap": (zipped(Item(b"a", behind=b"hidden"), B), "does not end where the next one begins"),
    "hidden entry": (
        zipped(Item(b"a", behind=Item(b"hidden").encode()), B),
        "does not end where the next one",
    ),
    "in front": (b"PK\3\4" + zipped(A), "does not lie where the end record says"),
    "in front, with offsets right": (
        in_front(zipped(A), b"PK\3\4hidden"),
        "does not begin where the one before",
    ),
    "behind": (zipped(A) + b"x", "does not end with the file"),
    "another archive behind": (zipped(A) + zipped(B), "does not lie where the end record says"),
    "another end in the comment": (zipped(A, comment=end(0, 0, 0)), "does not lie where the end record says"),
    "end signature in the comment": (zipped(A, comment=b"PK\5\6"), "is missing"),
    "comment cut": (zipped(A, comment=b"long")[:-1], "does not end with the file"),
    "comment longer": (zipped(A, comment=b"long") + b"!", "does not end with the file"),
    "names differ": (zipped(Item(b"a", local={"name": b"b"})), "say different things"),
    "methods differ": (zipped(Item(b"a", local={"method": 0})), "say different things"),
    "sizes differ": (zipped(Item(b"a", local={"size": 7})), "say different things"),
    "check sums differ": (zipped(Item(b"a", local={"crc32": 7})), "say different things"),
    "encodings differ": (zipped(Item(b"a", local={"flags": 1 << 11})), "say different things"),
    "descriptor differs": (zipped(Item(b"a", descriptor=describe(b"another"))), "says something else of it"),
    "descriptor missing": (zipped(Item(b"a", descriptor=b"")), "says something else of it"),
    "content after a descriptor": (
        zipped(Item(b"a", descriptor=describe(A.content), behind=b"hidden"), B),
        "says something else of it",
    ),
    "check sum": (
        zipped(Item(b"a", local={"crc32": 1}, listed={"crc32": 1})),
        "the check sum of 'a' is wrong",
    ),
    "holds more": (zipped(Item(b"a", local={"size": 7}, listed={"size": 7})), "holds more than it says"),
    "holds less": (zipped(Item(b"a", local={"size": 9}, listed={"size": 9})), "holds less than it says"),
    "stored in two sizes": (
        zipped(Item(b"a", method=0, local={"size": 7}, listed={"size": 7})),
        "has two sizes",
    ),
    "deflate damaged": (zipped(Item(b"a", packed=b"\xff" * 9)), "is damaged"),
    "deflate cut": (zipped(Item(b"a", packed=deflate(A.content)[:-2])), "is cut off"),
    "deflate with a tail": (
        zipped(Item(b"a", packed=deflate(A.content) + b"x")),
        "something behind the content",
    ),
    "encrypted": (zipped(Item(b"a", flags=1)), "is encrypted"),
    "encrypted strongly": (zipped(Item(b"a", flags=1 | 1 << 6)), "is encrypted"),
    "masked": (zipped(Item(b"a", flags=1 << 13)), "is encrypted"),
    "patch data": (zipped(Item(b"a", flags=1 << 5)), "which is not accepted"),
    "AES": (zipped(Item(b"a", method=99)), "by the method 99"),
    "bzip2": (zipped(Item(b"a", method=12)), "by the method 12"),
    "deflate64": (zipped(Item(b"a", method=9)), "by the method 9"),
    "LZMA": (zipped(Item(b"a", method=14)), "by the method 14"),
    "split": (zipped(Item(b"a", listed={"disk": 1})), "a part of a split"),
    "split end": (zipped(A)[:-22] + end(1, 47, 41, disk=1), "a part of a split"),
    "too few listed": (
        zipped(A, B)[:-22] + end(1, 94, len(A.encode() * 2)),
        "something behind the last entry",
    ),
    "too many listed": (zipped(A)[:-22] + end(2, 47, 41), "is cut off"),
    "offset beyond": (zipped(Item(b"a", listed={"offset": 10_000})), "does not begin where the one before"),
    "directory beyond": (zipped(A)[:-22] + end(1, 47, 10_000), "does not lie where the end record says"),
    "cut": (zipped(A)[:-30], "the end record of the zip archive is missing"),
    "cut before the directory": (A.encode(), "the end record of the zip archive is missing"),
    "directory damaged": (zipped(A).replace(b"PK\1\2", b"PK\1\1"), "its directory is damaged"),
    "local header damaged": (
        b"PK\3\4" + zipped(B, A).replace(b"PK\3\4", b"PK\3\3")[4:],
        "not where the directory",
    ),
    "extra field damaged": (zipped(Item(b"a", extra=b"\x01\0\xff\xff")), "an extra field is damaged"),
    "extra field cut": (zipped(Item(b"a", extra=b"abc")), "an extra field is damaged"),
    "ZIP64 twice": (zipped(Item(b"a", extra=wide(8) * 2)), "an extra field is there twice"),
    "ZIP64 short": (
        zipped(Item(b"a", extra=wide(8), listed={"size": MAX_32, "packed": MAX_32})),
        "is too short",
    ),
    "ZIP64 lies": (
        zipped(Item(b"a", extra=wide(1 << 40), local={"size": MAX_32}, listed={"size": MAX_32})),
        "claims more than 1032 times",
    ),
    "ZIP64 end lies about entries": (with_wide_end(A, entries=2), "its two end records say different things"),
    "ZIP64 end lies about the place": (with_wide_end(A, start=7), "its two end records say different things"),
    "ZIP64 end elsewhere": (with_wide_end(A, at=0), "its ZIP64 end record is not where it must be"),
    "too many bytes": (
        zipped(*[Item(b"%d" % n, os.urandom(300_000)) for n in range(4)]),
        "more than 1000000 bytes",
    ),
    "too dense": (zipped(Item(b"a", bytes(900_000))), "grows to more than 100 times"),
    "claims more than deflate can": (
        zipped(Item(b"a", local={"size": 1 << 31}, listed={"size": 1 << 31})),
        "claims more than 1032 times",
    ),
    "too many entries": (zipped(*[Item(b"%d" % n) for n in range(51)]), "holds more than 50 entries"),
    "too many implied": (
        zipped(*[Item(b"%d/%d/%d" % (n, n, n)) for n in range(20)]),
        "holds more than 50 entries",
    ),
    "too deep": (zipped(Item(b"/".join([b"d"] * 9))), "is more than 8 levels deep"),
}
