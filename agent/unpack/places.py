"""What stands where in a tree, in 16 to 32 bytes for each path: a table of hashes instead of the paths.

100,000 entries, which may have names of a kilobyte each, have to fit in beside the largest window of a
decompressor (security notes, S3).
"""

from array import array
from enum import IntEnum
from typing import Final

_HASH_BITS: Final = 61
_HASH_MASK: Final = (1 << _HASH_BITS) - 1
_WHAT_BITS: Final = 3
_WHAT_MASK: Final = (1 << _WHAT_BITS) - 1
_FIRST_SLOTS: Final = 4_096


class Place(IntEnum):
    """What stands at a path. Not zero: that is a free slot."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3
    LOOK = 4
    """Nothing; but something is there that looks like this path."""


class Places:
    """From paths to what is there; nothing is ever taken out.

    Two paths are taken for one where 61 bits of their hashes agree: Python's SipHash, under a key that is
    new in each process (PEP 456). So nobody can look for such paths, and among 100,000 there are two once in
    400 million archives. Who asks must see to it that this can only refuse an archive.
    """

    def __init__(self) -> None:
        self._slots = array("Q", bytes(8 * _FIRST_SLOTS))  # a hash and a Place each
        self._last = _FIRST_SLOTS - 1
        self._free = _FIRST_SLOTS // 2  # how many more may be put before half of the slots are taken

    def get(self, path: str) -> Place | None:
        """Return what is there."""
        found = self._slots[self._find(hash(path) & _HASH_MASK)] & _WHAT_MASK
        return Place(found) if found else None

    def put(self, path: str, what: Place) -> Place | None:
        """Return what is there; if nothing is, `what` is from now on."""
        key = hash(path) & _HASH_MASK
        slots, last = self._slots, self._last
        at = key & last
        while there := slots[at]:  # as in _find, which would double the time of this
            if there >> _WHAT_BITS == key:
                return Place(there & _WHAT_MASK)
            at = (at + 1) & last
        slots[at] = key << _WHAT_BITS | what
        self._free -= 1
        if not self._free:
            self._grow()
        return None

    def _find(self, key: int) -> int:
        """Return the slot of `key`, or the free one where it belongs."""
        slots, last = self._slots, self._last
        at = key & last
        while (there := slots[at]) and there >> _WHAT_BITS != key:
            at = (at + 1) & last
        return at

    def _grow(self) -> None:
        full = self._slots
        self._slots = array("Q", bytes(16 * len(full)))
        self._last = len(self._slots) - 1
        self._free = len(full) // 2
        for entry in full:
            if entry:
                self._slots[self._find(entry >> _WHAT_BITS)] = entry
