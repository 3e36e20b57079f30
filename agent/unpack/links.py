"""The symlinks of an archive, kept until they can be made."""

from collections.abc import Iterator
from typing import Final

_PAGE_BYTES: Final = 64 * 1024
_PAIR: Final = 2


class LinkText:
    """Where symlinks are to be and their targets, in the order of `add`, in hardly more memory than the text.

    Neither may hold a NUL.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._full: list[bytes] = []
        self._page = bytearray()  # the last one

    def add(self, path: str, target: str) -> None:
        """Take in one more."""
        text = f"{path}\0{target}\0".encode()
        self.size_bytes += len(text)
        if len(self._page) + len(text) > _PAGE_BYTES:
            self._full.append(bytes(self._page))
            self._page.clear()
        self._page += text

    def take_all(self) -> Iterator[tuple[bytes, bytes]]:
        """Yield path and target of each, in UTF-8; what was yielded is no longer kept here."""
        self._full.append(bytes(self._page))
        self._page.clear()
        self._full.reverse()
        while self._full:
            texts = self._full.pop().split(b"\0")
            yield from zip(texts[0:-1:_PAIR], texts[1:-1:_PAIR], strict=True)
