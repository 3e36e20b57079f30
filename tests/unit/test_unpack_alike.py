"""A header like the one before it is read the short way, and that must say just what the long way says."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.unpack.entry import Entry
from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.source import PlainSource
from agent.unpack.stream import Stream
from agent.unpack.tar import PlainHeader, TarReader
from tests.fakes.archives import BLOCK, END, Member, directory, file

FIRST = file("d/a")
NAMES = (
    *(b"d/b", b"d/.b", b"d/b/", b"d/b/.", b"d/.", b"d/..", b"d/", b"d//b", b"d/e/b", b"b", b"e/b", b"/b"),
    *(b"", b"../b", b"d/b\\c", b"d/b\nc", b"d/b c", b"d/\xc3\xa4", b"d/\xff", b"d/b\0c", b"./d/b"),
    b"d/" + 98 * b"b",
)
FIELDS = (
    *((100, b"0000755\0"), (108, b"0000001\0"), (124, b"00000000008\0"), (124, b"00000000010 ")),
    *((124, b"         10\0"), (124, b"\x80" + bytes(10) + b"\x08"), (124, b"0000000001 \0")),
    *((124, bytes(12)), (135, b"0"), (156, b"\0"), (156, b"2"), (156, b"5"), (156, b"x"), (157, b"e")),
    *((257, b"ustar  \0"), (345, b"p"), (500, b"\xff")),
)


def read(*members: bytes) -> tuple[list[tuple[Entry, bytes]], str]:
    """What the archive of `members` says: its entries with their content, and why it is refused, if it is."""
    reader = TarReader(Stream(PlainSource(io.BytesIO(b"".join(members) + END))), Limits())
    found = []
    try:
        for entry in reader:
            found += [(entry, b"".join(bytes(view) for view in reader.content(entry)))]
    except RefusedError as exc:
        return found, str(exc)
    return found, ""


def check(second: bytes, first: Member = FIRST) -> None:
    """`second` must be read behind a file like it as behind a directory, which is like no file."""
    entries, reason = read(first.encode(), second)
    longer = read(directory("d").encode(), second)
    assert (entries[1:], reason) == (longer[0][1:], longer[1])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("before", [b"d/a", b"./d/a", b"a", b"d//a"])
def test_a_name_is_read_alike(before: bytes, name: bytes) -> None:
    check(Member(name, b"content\n").encode(), Member(before, b"x"))


@pytest.mark.parametrize("field", FIELDS)
def test_a_field_is_read_alike(field: tuple[int, bytes]) -> None:
    check(Member(b"d/b", b"content\n", fields=(field,)).encode())


def test_a_prefix_is_read_alike() -> None:
    check(Member(b"b", b"content\n", prefix=b"d").encode(), Member(b"a", prefix=b"d"))
    check(Member(b"b", b"content\n", prefix=b"d").encode(), Member(b"a", prefix=b"e"))


@given(at=st.integers(0, BLOCK - 1), byte=st.integers(0, 255), summed=st.booleans())
def test_any_other_byte_is_read_alike(at: int, byte: int, summed: bool) -> None:
    changed = bytes([byte])
    if summed:
        check(Member(b"d/b", b"content\n", fields=((at, changed),)).encode())
    else:
        plain = file("d/b").encode()
        check(plain[:at] + changed + plain[at + 1 :])


def test_the_short_way_is_taken() -> None:
    first = Entry(*next(iter(read(FIRST.encode())[0]))[0])
    before = PlainHeader(FIRST.encode()[:BLOCK], first)
    alike = before.read_alike(file("d/b", b"12345").encode()[:BLOCK])
    assert alike == first._replace(path="d/b", size_bytes=5)
    assert before.read_alike(file("e/b").encode()[:BLOCK]) is None
