"""Free space on the file system of the packages directory, with what downloads under way still need of it."""

import os
from collections.abc import Callable
from pathlib import Path

from agent.errors import NoSpaceError, disk_errors


class Room:
    """Shared by all downloads of an agent, so that two do not count on the same free bytes."""

    def __init__(self, directory: Path, *, reserve_bytes: int, make_room: Callable[[int], None]) -> None:
        """`make_room` gets a number of bytes and removes what can be spared, as far as it is there."""
        self._directory, self._reserve_bytes, self._make_room = directory, reserve_bytes, make_room
        self._wanted: dict[object, int] = {}

    def claim(self, who: object, size: int) -> None:
        """`who` is about to write `size` more bytes; replaces its earlier claim. Blocks shortly.

        Raises NoSpaceError, HostError; the earlier claim stays then."""
        others = sum(bytes_ for one, bytes_ in self._wanted.items() if one is not who)
        needed = size + others + self._reserve_bytes
        if (free := self._free_bytes()) < needed:
            self._make_room(needed - free)
            free = self._free_bytes()
        if free < needed:
            raise NoSpaceError(self._directory, needed_bytes=needed, free_bytes=free)
        self._wanted[who] = size

    def shrink(self, who: object, size: int) -> None:
        """Less is left to write: it stands in the file already."""
        self._wanted[who] = max(0, size)

    def release(self, who: object) -> None:
        """`who` writes no more. Safe to repeat."""
        self._wanted.pop(who, None)

    def _free_bytes(self) -> int:
        """What an ordinary user may still write there."""
        with disk_errors(self._directory):
            stats = os.statvfs(self._directory)
        return stats.f_bavail * stats.f_frsize
