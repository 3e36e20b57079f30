"""Decompressed bytes out of a package: plain, gzip (RFC 1952), zstd (RFC 8878) or xz.

All kinds behave alike: members (frames, streams) may follow each other, each is verified by its own check
sum, and nothing may follow the last one but the zeros that its format knows.
"""

from collections.abc import Callable
from typing import BinaryIO, Final, NamedTuple, Protocol

from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.stream import is_zero

_READ_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 1024 * 1024
# A decompressor gives back a copy of what it did not need: with large pieces, small members would cost the
# square of their number. The first must hold all that a window can be refused for (xz: 1 KiB).
_FIRST_PIECE_BYTES: Final = 4 * 1024
_PIECE_GROWTH: Final = 8
_MOST_EMPTY_MEMBERS: Final = (
    10_000  # in a row; tools write one now and then (bgzip at the end, pzstd between)
)
_LARGEST_WINDOW_BYTES: Final = 129 * 1024 * 1024  # zstd --long=27 and what liblzma needs beside a dictionary


class Decompressor(Protocol):
    """What bz2 introduced and lzma, isal and zstd share. `decompress` raises `Compression.error`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: "bytes | memoryview", max_length: int = -1, /) -> bytes: ...


class Compression(NamedTuple):
    """One kind. `padding` is what zeros behind the last member come in multiples of, 0 where none may."""

    name: str
    magic: Callable[[bytes], bool]
    """Tells from four bytes or more whether a member starts here."""
    start: Callable[[int], Decompressor]
    """Makes a decompressor for one member that may remember so many bytes."""
    error: type[Exception]
    padding: int


class Gauge:
    """Refuses what grows too much. Counts what all members read and gave."""

    def __init__(self, limits: Limits) -> None:
        self._ratio, self._from_bytes = limits.ratio, limits.ratio_from_bytes
        self.in_bytes = self.out_bytes = 0

    def count(self, produced: int) -> None:
        """Take note of `produced` bytes; `in_bytes` must be up to date."""
        self.out_bytes += produced
        if self.out_bytes > self._from_bytes and self.out_bytes > self.in_bytes * self._ratio:
            raise RefusedError(f"it grows to more than {self._ratio} times its size")


class PlainSource:
    """The bytes as they are."""

    def __init__(self, package: BinaryIO) -> None:
        self._package = package

    def read_block(self) -> bytes:
        """See agent.unpack.stream.Source."""
        return self._package.read(_BLOCK_BYTES)


class CompressedSource:
    """Decompresses `package` from its present position."""

    def __init__(self, package: BinaryIO, compression: Compression, limits: Limits) -> None:
        self._package, self._kind = package, compression
        self._window_bytes = limits.window_bytes
        self._gauge = Gauge(limits)
        self._member: Decompressor | None = self._kind.start(self._window_bytes)
        """None at the end: its window is given back."""
        self._chunk, self._at = b"", 0  # what was read of the package, and how much of that was passed on
        self._piece_bytes = _FIRST_PIECE_BYTES
        self._empty_members, self._gave = 0, False
        self._most_bytes: int | None = None  # what may come out, once a member wants a larger window

    def read_block(self) -> bytes:
        """Return up to 1 MiB; b"" once the last member was verified and only padding followed."""
        while (member := self._member) is not None:
            if member.eof:
                self._at -= len(member.unused_data)
                self._member = self._next_member()
                continue
            piece, at_end = memoryview(b""), False
            if member.needs_input:
                piece = self._next_piece()
                at_end = not piece
            block = self._decompress(member, piece)
            if block:
                self._gave = True
                self._gauge.count(len(block))
                if self._most_bytes is not None and self._gauge.out_bytes > self._most_bytes:
                    raise RefusedError(
                        f"its {self._kind.name} data needs a window of more than {self._window_bytes} bytes"
                    )
                return block
            if at_end and not member.eof:
                raise RefusedError(f"its {self._kind.name} data is cut off")
        return b""

    def _next_piece(self) -> memoryview:
        if self._at == len(self._chunk):
            self._chunk, self._at = self._read_package(), 0
        piece = memoryview(self._chunk)[self._at : self._at + self._piece_bytes]
        self._at += len(piece)
        self._piece_bytes = min(_PIECE_GROWTH * self._piece_bytes, _READ_BYTES)
        return piece

    def _decompress(self, member: Decompressor, data: memoryview) -> bytes:
        try:
            return member.decompress(data, _BLOCK_BYTES)
        except self._kind.error as exc:
            if self._gauge.out_bytes or self._most_bytes is not None or self._gauge.in_bytes > _READ_BYTES:
                raise RefusedError(f"its {self._kind.name} data is damaged ({exc})") from exc
        # Nothing came out yet, so it may be the window that was refused. A larger one is filled by output
        # alone: while that is short, so is the memory.
        self._most_bytes = self._window_bytes
        self._member = larger = self._kind.start(_LARGEST_WINDOW_BYTES)
        return self._decompress(larger, data)

    def _read_package(self) -> bytes:
        data = self._package.read(_READ_BYTES)
        self._gauge.in_bytes += len(data)
        return data

    def _next_member(self) -> Decompressor | None:
        self._empty_members = 0 if self._gave else self._empty_members + 1
        if self._empty_members > _MOST_EMPTY_MEMBERS:
            raise RefusedError(
                f"more than {_MOST_EMPTY_MEMBERS} empty members of {self._kind.name} data follow each other"
            )
        while len(self._chunk) - self._at < 4 and (more := self._read_package()):
            self._chunk, self._at = self._chunk[self._at :] + more, 0
        if self._kind.magic(self._chunk[self._at : self._at + 4]):
            self._piece_bytes, self._gave = _FIRST_PIECE_BYTES, False
            return self._kind.start(self._window_bytes)
        rest, behind = self._chunk[self._at :], 0
        while rest:
            behind += len(rest)
            if not self._kind.padding or not is_zero(rest):
                raise RefusedError(f"there is something behind its {self._kind.name} data")
            rest = self._read_package()
        if behind and behind % self._kind.padding:
            raise RefusedError(f"its {self._kind.name} data is followed by {behind} zeros")
        return None
