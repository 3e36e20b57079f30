"""Tar archives that must be refused, each with a part of the reason that is told."""

import os
import zlib
from collections.abc import Mapping
from typing import Final

from agent.unpack import Limits
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

OK: Final = file("ok")
SMALL: Final = Limits(
    total_bytes=1_000_000, entries=50, depth=8, ratio=100, ratio_from_bytes=200_000, seconds=60
)
"""By which the tables below are refused."""

PATHS = {
    "parent": (tgz(file("../evil")), "leads out of the destination"),
    "parent inside": (tgz(file("a/../../evil")), "leads out of the destination"),
    "parent that returns": (tgz(file("a/../b")), "leads out of the destination"),
    "absolute": (tgz(file("/tmp/evil")), "is absolute"),
    "absolute twice": (tgz(file("//tmp/evil")), "is absolute"),
    "parent directory": (tgz(directory("../evil")), "leads out of the destination"),
    "parent alone": (tgz(directory("..")), "leads out of the destination"),
    "destination as file": (
        tgz(file(".")),
        "an entry that is no directory would replace the destination itself",
    ),
    "empty name": (tgz(Member(b"")), "a name is empty"),
    "newline": (tgz(file("a\nb")), "holds a control or format character"),
    "escape": (tgz(file("a\x1b[2Jb")), "holds a control or format character"),
    "delete": (tgz(file("a\x7fb")), "holds a control or format character"),
    "right-to-left override": (tgz(file("a\u202egpj.sh")), "holds a control or format character"),
    "zero width": (tgz(file("a\u200bb")), "holds a control or format character"),
    "line separator": (tgz(file("a\u2028b")), "holds a control or format character"),
    "backslash": (tgz(file("..\\..\\evil")), "holds a backslash"),
    "not UTF-8": (tgz(Member(b"caf\xe9")), "is not UTF-8"),
    "surrogate": (tgz(Member(b"a\xed\xa0\x80")), "is not UTF-8"),
    "overlong dots": (tgz(Member(b"\xc0\xae\xc0\xae/evil")), "is not UTF-8"),
    "long part": (tgz(long_name(b"n" * 256), OK), "is longer than 255 bytes"),
    "long path": (tgz(long_name(b"/".join([b"n" * 200] * 6)), OK), "is longer than 1024 bytes"),
    "too deep": (tgz(file("/".join("abcdefghi"))), "is more than 8 levels deep"),
    "deep directories": (tgz(long_name(b"d/" * 500), OK), "is more than 8 levels deep"),
    "parent in prefix": (tgz(Member(b"evil", prefix=b"..")), "leads out of the destination"),
    "absolute prefix": (tgz(Member(b"evil", prefix=b"/tmp")), "is absolute"),
    "parent by GNU long name": (tgz(long_name(b"../evil"), OK), "leads out of the destination"),
    "parent by pax path": (tgz(pax(("path", b"../evil")), OK), "leads out of the destination"),
    "absolute by pax path": (tgz(pax(("path", b"/tmp/evil")), OK), "is absolute"),
}
LINKS = {
    "symlink out": (tgz(symlink("a", "../evil")), "leads out of the destination, to"),
    "symlink far out": (tgz(symlink("a/b/c", "../../../../etc")), "leads out of the destination, to"),
    "symlink absolute": (tgz(symlink("a", "/etc/passwd")), "leads to the absolute path"),
    "symlink empty": (tgz(symlink("a", "")), "a link target is empty"),
    "symlink out by another": (
        tgz(directory("d"), symlink("d/up", ".."), symlink("x", "d/up/../evil")),
        "leads out of the destination, to",
    ),
    "symlink out by a later one": (
        tgz(symlink("x", "y/../evil"), directory("d"), symlink("y", "d/..")),
        "leads out of the destination, to",
    ),
    "symlink out through nothing": (
        tgz(symlink("x", "missing/../../evil")),
        "leads out of the destination, to",
    ),
    "symlink circle": (tgz(symlink("a", "b"), symlink("b", "a")), "leads through too many others"),
    "symlink to itself": (tgz(symlink("a", "a")), "leads through too many others"),
    "symlink chain": (
        tgz(*[symlink(f"l{n}", f"l{n + 1}") for n in range(40)]),
        "leads through too many others",
    ),
    "write through symlink": (
        tgz(symlink("a", "b"), directory("b"), file("a/evil")),
        "is no directory but something is to be put into it",
    ),
    "write through symlink out": (
        tgz(symlink("a", ".."), file("a/evil")),
        "is no directory but something is to be put into it",
    ),
    "file over symlink": (tgz(symlink("a", "b"), file("a")), "is there twice"),
    "symlink over file": (tgz(file("a"), symlink("a", "b")), "is there twice"),
    "symlink over directory": (tgz(directory("a"), symlink("a", "b")), "is there twice"),
    "symlink over destination": (
        tgz(symlink(".", "/tmp")),
        "an entry that is no directory would replace the destination itself",
    ),
    "symlink named as directory": (tgz(symlink("a/", "b")), "is named like a directory"),
    "symlink with a newline": (tgz(symlink("a", "b\nc")), "holds a control or format character"),
    "long symlink out": (
        tgz(long_name(b"../evil", b"K"), symlink("a", "b")),
        "leads out of the destination, to",
    ),
    "pax symlink out": (
        tgz(pax(("linkpath", b"../evil")), symlink("a", "b")),
        "leads out of the destination, to",
    ),
    "hard link out": (tgz(hardlink("a", "../evil")), "leads out of the destination"),
    "hard link absolute": (tgz(hardlink("a", "/etc/passwd")), "is absolute"),
    "hard link to a later file": (tgz(hardlink("a", "b"), file("b")), "which is no earlier file"),
    "hard link to nothing": (tgz(hardlink("a", "b")), "which is no earlier file"),
    "hard link to itself": (tgz(hardlink("a", "a")), "which is no earlier file"),
    "hard link to a directory": (tgz(directory("d"), hardlink("a", "d")), "which is no earlier file"),
    "hard link to a symlink": (
        tgz(symlink("s", "f"), file("f"), hardlink("a", "s")),
        "which is no earlier file",
    ),
    "hard link through a symlink": (
        tgz(directory("d"), file("d/f"), symlink("s", "d"), hardlink("a", "s/f")),
        "which is no earlier file",
    ),
    "hard link with content": (
        tgz(file("f"), Member(b"a", b"evil", kind=b"1", target=b"f")),
        "is no file but has 4 bytes of content",
    ),
    "link target on a file": (tgz(pax(("linkpath", b"x")), file("a")), "is no link but has a link target"),
}
SPECIAL = {
    "character device": (tgz(Member(b"a", kind=b"3")), "is a character device"),
    "block device": (tgz(Member(b"a", kind=b"4")), "is a block device"),
    "FIFO": (tgz(Member(b"a", kind=b"6")), "the entry"),
    "sparse": (tgz(Member(b"a", kind=b"S")), "is a sparse file"),
    "sparse by pax": (
        tgz(pax(("GNU.sparse.major", b"1"), ("GNU.sparse.minor", b"0")), OK),
        "it holds a sparse file",
    ),
    "sparse for all": (tgz(pax(("GNU.sparse.map", b"0,1"), kind=b"g"), OK), "it holds a sparse file"),
    "multi-volume": (tgz(Member(b"a", kind=b"M")), "is a part of a multi-volume archive"),
    "unknown type": (tgz(Member(b"a", kind=b"\x1b")), "is of the unknown type"),
    "ACL type": (tgz(Member(b"a", kind=b"A")), "is of the unknown type"),
}
AMBIGUOUS = {
    "duplicate": (tgz(file("a", b"one"), file("a", b"two")), "is there twice"),
    "duplicate after normalising": (tgz(file("a/b"), file("./a//b")), "is there twice"),
    "file as directory": (tgz(file("a"), file("a/b")), "is no directory but something is to be put into it"),
    "directory as file": (tgz(file("a/b"), file("a")), "is there twice"),
    "two sizes": (tgz(pax(("size", b"3")), file("a", b"four")), "has two sizes"),
    "size twice": (
        tgz(pax(("size", b"4"), ("size", b"4")), file("a", b"four")),
        "twice, to nothing or to a broken value",
    ),
    "path twice": (tgz(pax(("path", b"a"), ("path", b"b")), OK), "twice, to nothing or to a broken value"),
    "path by two headers": (tgz(pax(("path", b"a")), long_name(b"b"), OK), "extended headers set"),
    "path with NUL": (tgz(pax(("path", b"a\0b")), OK), "twice, to nothing or to a broken value"),
    "empty path": (tgz(pax(("path", b"")), OK), "twice, to nothing or to a broken value"),
    "path for all": (tgz(pax(("path", b"a"), kind=b"g"), OK), "a global header sets"),
    "target for all": (tgz(pax(("linkpath", b"a"), kind=b"g"), OK), "a global header sets"),
    "size for all": (tgz(pax(("size", b"0"), kind=b"g"), OK), "a global header sets"),
    "long name with more": (tgz(long_name(b"a\0b"), OK), "has something behind its end"),
    "directory with content": (
        tgz(Member(b"d", b"content", kind=b"5")),
        "is no file but has 7 bytes of content",
    ),
    "directory-like file with content": (
        tgz(Member(b"d/", b"content", kind=b"\0")),
        "is no file but has 7 bytes of content",
    ),
    "something in the padding": (
        tgz(Member(b"a", b"x", padding=b"!"), OK),
        "there is something in the padding behind a file",
    ),
    "something behind the end": (tgz(OK, end=END + b"x" * 512), "there is something behind its end"),
    "an entry behind the end": (tgz(OK, end=END + tar(file("hidden"))), "there is something behind its end"),
    "an entry behind one zero block": (
        tgz(OK, end=bytes(512) + tar(file("hidden"))),
        "there is something behind its end",
    ),
    "header without entry": (tgz(OK, pax(("path", b"a"))), "it ends after an extended header"),
}
CORRUPT = {
    "empty": (b"", "it is empty; tar, tar.gz, tar.zst, tar.xz and zip are accepted"),
    "text": (
        b"this is no archive",
        "it is of an unknown kind; tar, tar.gz, tar.zst, tar.xz and zip are accepted",
    ),
    "page": (
        b"<!DOCTYPE html><title>Sign in</title>",
        "it is a web page; tar, tar.gz, tar.zst, tar.xz and zip are accepted",
    ),
    "no entries": (tgz(), "it holds no file"),
    "no entries and no gzip": (tar(), "it holds no file"),
    "directories alone": (tgz(directory("./"), directory("a/b")), "it holds no file"),
    "a label alone": (tgz(Member(b"label", kind=b"V")), "it holds no file"),
    "gzip of nothing": (compress(b""), "it is cut off: the end mark is missing"),
    "gzip of text": (compress(b"this is no archive" * 100), "a header holds the checksum"),
    "gzip header alone": (compress(tar(OK))[:10], "its gzip data is cut off"),
    "gzip cut": (tgz(file("a", os.urandom(5000)))[:-2000], "its gzip data is cut off"),
    "gzip without trailer": (tgz(OK)[:-8], "its gzip data is cut off"),
    "gzip trailer cut": (tgz(OK)[:-1], "its gzip data is cut off"),
    "gzip checksum": (tgz(OK)[:-8] + b"\0\0\0\0" + tgz(OK)[-4:], "its gzip data is damaged"),
    "gzip length": (tgz(OK)[:-4] + b"\0\0\0\0", "its gzip data is damaged"),
    "gzip with a tail": (tgz(OK) + b"tail", "there is something behind its gzip data"),
    "gzip with zeros and a tail": (
        tgz(OK) + bytes(1000) + b"tail",
        "there is something behind its gzip data",
    ),
    "gzip with half a member": (tgz(OK) + compress(b"")[:9], "its gzip data is cut off"),
    "deflate without gzip": (
        zlib.compress(tar(OK)),
        "it is of an unknown kind; tar, tar.gz, tar.zst, tar.xz and zip are accepted",
    ),
    "header checksum": (tgz(Member(b"a", checksum=1)), "a header's checksum is wrong"),
    "header cut": (compress(tar(OK, end=b"")[:300]), "it ends in the middle of a header"),
    "content cut": (
        compress(tar(file("a", b"x" * 2000), end=b"")[:1500]),
        "it ends in the middle of a file's content",
    ),
    "padding cut": (compress(tar(file("a", b"x"), end=b"")[:600]), "it ends in the middle of padding"),
    "no end mark": (compress(tar(OK, end=b"")), "it is cut off: the end mark is missing"),
    "half an end mark": (compress(tar(OK, end=bytes(100))), "it ends in the middle of a header"),
    "negative size": (
        tgz(Member(b"a", fields=((124, b"\xff" * 12),))),
        "a header holds a negative or huge size",
    ),
    "size in words": (tgz(Member(b"a", fields=((124, b"0000000zzzz\0"),))), "a header holds the size"),
    "pax record length": (tgz(Member(b"x", b"99 path=a\n", kind=b"x"), OK), "an extended header is damaged"),
    "pax record of nothing": (
        tgz(Member(b"x", b"0 path=a\n", kind=b"x"), OK),
        "an extended header is damaged",
    ),
    "pax record negative": (
        tgz(Member(b"x", b"-9 path=a\n", kind=b"x"), OK),
        "an extended header is damaged",
    ),
    "pax record without newline": (
        tgz(Member(b"x", b"9 path=ab", kind=b"x"), OK),
        "an extended header is damaged",
    ),
    "pax record without equals": (
        tgz(Member(b"x", b"8 pathx\n", kind=b"x"), OK),
        "an extended header is damaged",
    ),
    "pax record without key": (tgz(Member(b"x", b"5 =a\n", kind=b"x"), OK), "an extended header is damaged"),
    "pax record digits elsewhere": (
        tgz(Member(b"x", "²0 path=aaaaaaaaaaaa\n".encode(), kind=b"x"), OK),
        "an extended header is damaged",
    ),
    "pax size in words": (tgz(pax(("size", b"many")), OK), "an extended header holds the size"),
}
RESOURCES = {
    "claims a terabyte": (
        tgz(Member(b"a", fields=((124, b"\x80\0\0\0\0\0\1\0\0\0\0\0"),))),
        "it would hold more than 1000000 bytes",
    ),
    "claims it by pax": (tgz(pax(("size", b"9" * 17)), OK), "it would hold more than 1000000 bytes"),
    "claims it by digits": (tgz(Member(b"a", size=8**11 - 1)), "it would hold more than 1000000 bytes"),
    "too many bytes": (
        tgz(*[file(f"f{n}", bytes(300_000)) for n in range(4)]),
        "it grows to more than 100 times its size",
    ),
    "too many entries": (tgz(*[file(f"f{n}", b"") for n in range(51)]), "it holds more than 50 entries"),
    "too many implied": (
        tgz(*[file(f"{n}/{n}/{n}", b"") for n in range(20)]),
        "it holds more than 50 entries",
    ),
    "too dense": (tgz(file("zeros", bytes(900_000))), "it grows to more than 100 times its size"),
    "extended header too large": (
        tgz(pax(("comment", b"x" * 70_000)), OK),
        "an extended header of 70015 bytes is too large",
    ),
    "extended header claims a gigabyte": (
        tgz(Member(b"x", kind=b"x", size=1 << 30)),
        "an extended header of 1073741824 bytes is too large",
    ),
    "extended headers without end": (
        tgz(*[pax(("comment", b"x"))] * 9, OK),
        "more than 8 extended headers follow each other",
    ),
    "padding without end": (
        compress(tar(OK) + bytes(20_000_000)),
        "it grows to more than 100 times its size",
    ),
}
CORPUS: Final[Mapping[str, tuple[bytes, str]]] = {
    f"{group}: {name}": case
    for group, members in {
        "path": PATHS, "link": LINKS, "special": SPECIAL, "ambiguous": AMBIGUOUS, "corrupt": CORRUPT,
        "resource": RESOURCES,
    }.items()
    for name, case in members.items()
}  # fmt: skip
