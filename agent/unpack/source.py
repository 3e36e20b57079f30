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
_LARGEST_WINDOW_BYTES: Final = 129 * 1024 * 1024  # zstd --long=27 and what liblzma needs beside a dictionary


class Decompressor(Protocol):
    """What bz2 introduced and lzma, isal and zstd share. `decompress` raises `Compression.error`."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1, /) -> bytes: ...


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
        self._member = self._kind.start(self._window_bytes)
        self._input = b""
        self._most_bytes: int | None = None  # what may come out, once a member wants a larger window
        self._ended = False

    def read_block(self) -> bytes:
        """Return up to 1 MiB; b"" once the last member was verified and only padding followed."""
        while not self._ended:
            if self._member.eof:
                self._input = self._member.unused_data
                self._start_member()
                continue
            at_end = False
            if self._member.needs_input:
                self._input = self._input or self._read_package()
                at_end = not self._input
            block, self._input = self._decompress(self._input), b""
            if block:
                self._gauge.count(len(block))
                if self._most_bytes is not None and self._gauge.out_bytes > self._most_bytes:
                    raise RefusedError(
                        f"its {self._kind.name} data needs a window of more than {self._window_bytes} bytes"
                    )
                return block
            if at_end and not self._member.eof:
                raise RefusedError(f"its {self._kind.name} data is cut off")
        return b""

    def _decompress(self, data: bytes) -> bytes:
        try:
            return self._member.decompress(data, _BLOCK_BYTES)
        except self._kind.error as exc:
            if self._gauge.out_bytes or self._most_bytes is not None or self._gauge.in_bytes > _READ_BYTES:
                raise RefusedError(f"its {self._kind.name} data is damaged ({exc})") from exc
        # Nothing came out yet, so it may be the window that was refused. A larger one is filled by output
        # alone: while that is short, so is the memory.
        self._most_bytes = self._window_bytes
        self._member = self._kind.start(_LARGEST_WINDOW_BYTES)
        return self._decompress(data)

    def _read_package(self) -> bytes:
        data = self._package.read(_READ_BYTES)
        self._gauge.in_bytes += len(data)
        return data

    def _start_member(self) -> None:
        while len(self._input) < 4 and (more := self._read_package()):
            self._input += more
        if self._input and self._kind.magic(self._input):
            self._member = self._kind.start(self._window_bytes)
            return
        self._ended = True
        behind = 0
        while self._input:
            behind += len(self._input)
            if not self._kind.padding or not is_zero(self._input):
                raise RefusedError(f"there is something behind its {self._kind.name} data")
            self._input = self._read_package()
        if behind and behind % self._kind.padding:
            raise RefusedError(f"its {self._kind.name} data is followed by {behind} zeros")
