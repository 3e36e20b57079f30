"""Strange tar archives that every tool reads in one way, and that must be unpacked."""

from collections.abc import Mapping
from typing import Final

from tests.fakes.archives import (
    END,
    Member,
    compress,
    directory,
    file,
    hardlink,
    long_name,
    pax,
    symlink,
    tar,
    tgz,
)

LONG: Final = "a-rather-long-name-of-a-directory/" * 6 + "and-the-file-" * 4 + "in-it.txt"


def stated_sum(member: Member) -> int:
    return int(member.encode()[148:154], 8)


HARMLESS: Final[Mapping[str, bytes]] = {
    "the destination itself": tgz(directory("./"), file("./a")),
    "no directory entries": tgz(file("a/b/c")),
    "directories after their files": tgz(file("a/b"), directory("a")),
    "a directory twice": tgz(directory("a"), directory("a/"), file("a/b")),
    "dots and slashes": tgz(file("./a//./b")),
    "directory by name alone": tgz(Member(b"d/", kind=b"\0", magic=b""), file("d/f")),
    "contiguous file": tgz(Member(b"a", b"x", kind=b"7")),
    "old magic without prefix": tgz(Member(b"a", b"x", magic=b"ustar  \0", prefix=b"not/a/prefix")),
    "POSIX prefix": tgz(Member(b"a", b"x", prefix=b"some/where")),
    "one zero block": tgz(file("a"), end=END[:512]),
    "much padding": tgz(file("a"), end=bytes(1 << 20)),
    "zeros behind gzip": tgz(file("a")) + bytes(10_000),
    "two gzip members": compress(tar(file("a"))[:700]) + compress(tar(file("a"))[700:]),
    "many gzip members": b"".join(
        compress(bytes([byte])) for byte in tar(file("a", b"x"), end=END[:8])
    ) + compress(END[8:]),
    "global header": tgz(pax(("comment", b"c0ffee"), ("mtime", b"1"), kind=b"g"), file("a")),
    "attributes of macOS": tgz(
        pax(("LIBARCHIVE.xattr.com.apple.provenance", b"AQIA"), ("SCHILY.xattr.user.x", b"\0\xff\n")),
        file("a"),
    ),
    "unknown keys": tgz(pax(("made.up", b"x=y"), ("mtime", b"1.5"), ("hdrcharset", b"BINARY")), file("a")),
    "signed checksum": tgz(Member("ü".encode(), checksum=stated_sum(Member("ü".encode())) - 2 * 256)),
    "pax path and size": tgz(pax(("path", LONG.encode()), ("size", b"1")), file("cut", b"x")),
    "long names": tgz(
        long_name(LONG.encode(), b"K"), long_name(LONG.encode() + b"2"), symlink("x", "y")
    ),
    "links inside": tgz(
        file("a/f"), symlink("b/l", "../a/f"), symlink("c", "b/./l"), symlink("d", "."), hardlink("e", "a/f")
    ),
    "links alone": tgz(symlink("a", "b"), symlink("d/c", "../a")),
    "an empty file alone": tgz(file("a", b"")),
    "link before its file": tgz(symlink("a", "b"), file("b")),
    "huge file as base-256": tgz(Member(b"a", b"xyz", fields=((124, b"\x80" + bytes(10) + b"\x03"),))),
    "spaces in numbers": tgz(Member(b"a", b"xyz", fields=((124, b"          3 "), (100, b"   755 \0")))),
}  # fmt: skip
