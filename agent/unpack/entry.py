"""One thing that an archive wants to exist; what every format's reader yields."""

from collections.abc import Iterable, Iterator
from enum import Enum, auto
from typing import NamedTuple, Protocol


class Kind(Enum):
    """What may exist after unpacking. Devices, FIFOs, sockets and the like never become an entry."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    HARDLINK = auto()


class Entry(NamedTuple):
    """`path` is checked: relative, its parts joined by single slashes, "" for the destination itself.

    `target` is a symlink's text, as it will be written, or a hard link's file, checked like `path`.
    """

    kind: Kind
    path: str
    size_bytes: int = 0
    executable: bool = False
    target: str = ""


class Reader(Protocol):
    """Yields entries in archive order. Iterating and reading raise RefusedError."""

    def __iter__(self) -> Iterator[Entry]:
        """The content of a FILE must be read to its end before the next entry is asked for."""
        ...

    def content(self, entry: Entry) -> Iterable[memoryview]:
        """Return the content of the FILE that came last. A view is good until the next one is asked for."""
        ...
