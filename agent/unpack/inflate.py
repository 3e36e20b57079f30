"""gzip, as RFC 1952 has it: members, each with a trailer that must verify; zero padding may follow."""

import zlib
from typing import BinaryIO, Final

from agent.unpack.limits import Limits
from agent.unpack.refusal import RefusedError
from agent.unpack.stream import is_zero

_READ_BYTES: Final = 256 * 1024
_BLOCK_BYTES: Final = 1024 * 1024
_GZIP_WBITS: Final = 31  # zlib reads header and trailer (CRC-32 and length) itself
_MAGIC: Final = b"\x1f\x8b"


class GzipSource:
    """Decompresses `package` from its present position."""

    def __init__(self, package: BinaryIO, limits: Limits) -> None:
        self._package, self._limits = package, limits
        self._member = zlib.decompressobj(_GZIP_WBITS)
        self._input = b""
        self._in_bytes = self._out_bytes = 0
        self._ended = False

    def read_block(self) -> bytes:
        """Return up to 1 MiB; b"" once the last member's trailer was verified and only padding followed."""
        while not self._ended:
            self._input = self._input or self._read_package()
            at_end = not self._input  # zlib may still hold output that did not fit into the block before
            try:
                block = self._member.decompress(self._input, _BLOCK_BYTES)
            except zlib.error as exc:
                raise RefusedError(f"its gzip data is damaged ({exc})") from exc
            self._input = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if self._member.eof:
                self._start_member()
            elif at_end and not block:
                raise RefusedError("its gzip data is cut off")
            if block:
                self._count(len(block))
                return block
        return b""

    def _read_package(self) -> bytes:
        data = self._package.read(_READ_BYTES)
        self._in_bytes += len(data)
        return data

    def _start_member(self) -> None:
        while len(self._input) < len(_MAGIC) and (more := self._read_package()):
            self._input += more
        if self._input.startswith(_MAGIC):
            self._member = zlib.decompressobj(_GZIP_WBITS)
            return
        self._ended = True
        while self._input:
            if not is_zero(self._input):
                raise RefusedError("there is something behind its gzip data")
            self._input = self._read_package()

    def _count(self, produced: int) -> None:
        self._out_bytes += produced
        if (
            self._out_bytes > self._limits.ratio_from_bytes
            and self._out_bytes > self._in_bytes * self._limits.ratio
        ):
            raise RefusedError(f"it grows to more than {self._limits.ratio} times its size")
