"""A bounded window over the decompressed bytes, handed out without copies where that matters."""

from collections.abc import Iterable, Iterator
from typing import Final, Protocol

from agent.unpack.refusal import RefusedError

_ZEROS: Final = bytes(64 * 1024)


class Source(Protocol):
    """Where decompressed bytes come from; each archive compression is one."""

    def read_block(self) -> bytes:
        """Return the next bytes, at most a few MiB, b"" at the end. Raises RefusedError for damaged input."""
        ...


class Stream:
    """Reads a Source by exact lengths."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._block = memoryview(b"")

    def _more(self) -> bool:
        if not self._block:
            self._block = memoryview(self._source.read_block())
        return bool(self._block)

    def read_exact(self, length: int, what: str) -> bytes:
        """Return exactly `length` bytes; `what` they are is named when the archive ends before."""
        if len(self._block) >= length:
            taken, self._block = self._block[:length], self._block[length:]
            return bytes(taken)
        return b"".join(self.chunks(length, what))

    def read_optional(self, length: int, what: str) -> bytes:
        """Return `length` bytes, or b"" if the archive ends exactly here."""
        return self.read_exact(length, what) if self._more() else b""

    def read_behind(self, padding: int, length: int) -> bytes | None:
        """Return the `length` bytes behind `padding` zeros, at most 64 KiB; None, and nothing is read, where
        there are no zeros or not all of it is at hand: then read one after the other."""
        end = padding + length
        if end > len(self._block):
            return None
        found = bytes(self._block[:end])
        if padding:
            if found[:padding] != _ZEROS[:padding]:
                return None
            found = found[padding:]
        self._block = self._block[end:]
        return found

    def chunks(self, length: int, what: str) -> Iterable[memoryview]:
        """Return views of exactly `length` bytes together. A view is good until the next one is asked for."""
        if 0 < length <= len(self._block):  # nearly every small file
            taken, self._block = self._block[:length], self._block[length:]
            return (taken,)
        return self._chunks(length, what)

    def _chunks(self, length: int, what: str) -> Iterator[memoryview]:
        left = length
        while left:
            if not self._more():
                raise RefusedError(f"it ends in the middle of {what}")
            view = self._block[:left]
            self._block = self._block[len(view) :]
            left -= len(view)
            yield view

    def skip_zeros(self, length: int, what: str) -> bool:
        """Read `length` bytes, at most 64 KiB; tell whether all of them are zero."""
        if length <= len(self._block):
            found: memoryview | bytes = self._block[:length]
            self._block = self._block[length:]
        else:
            found = self.read_exact(length, what)
        return bytes(found) == _ZEROS[:length]

    def expect_zeros(self, at_most: int) -> None:
        """Read to the end, which must come within `at_most` bytes, all zero."""
        left = at_most
        while self._more():
            if not is_zero(self._block):
                raise RefusedError("there is something behind its end")
            left -= len(self._block)
            if left < 0:
                raise RefusedError(f"more than {at_most} bytes of padding follow its end")
            self._block = memoryview(b"")


def is_zero(view: memoryview | bytes) -> bool:
    """Tell whether all bytes are zero."""
    return all(
        view[at : at + len(_ZEROS)] == _ZEROS[: min(len(_ZEROS), len(view) - at)]
        for at in range(0, len(view), len(_ZEROS))
    )
