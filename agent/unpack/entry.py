"""One thing that an archive wants to exist; what every format's reader yields."""

from dataclasses import dataclass
from enum import Enum, auto

Parts = tuple[str, ...]
"""A checked path below the destination; () is the destination itself."""


class Kind(Enum):
    """What may exist after unpacking. Devices, FIFOs, sockets and the like never become an entry."""

    FILE = auto()
    DIRECTORY = auto()
    SYMLINK = auto()
    HARDLINK = auto()


@dataclass(frozen=True, slots=True)
class Entry:
    """`target` is a symlink's text, as it will be written, or a hard link's file, its parts joined by "/"."""

    kind: Kind
    parts: Parts
    size_bytes: int = 0
    executable: bool = False
    target: str = ""
