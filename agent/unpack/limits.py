"""How much an archive may ask of this host, and what came of it."""

from typing import Final, NamedTuple

_MIB: Final = 1024 * 1024


class Limits(NamedTuple):
    """What unpacking one archive may use. Passing a limit refuses the archive, whatever it claimed before."""

    total_bytes: int = 8 * 1024 * _MIB
    """Sum of all file contents, and of what extended headers hold."""
    entries: int = 100_000
    """Files, directories and links, and the directories that only their paths imply."""
    depth: int = 64
    """Parts of one path."""
    ratio: int = 1_000
    """Bytes out for one byte in, looked at once `ratio_from_bytes` came out (deflate cannot pass 1,032)."""
    ratio_from_bytes: int = 256 * _MIB
    link_bytes: int = 12 * _MIB
    """Sum of the paths and targets of all symlinks: they are held in memory until all else is made."""
    window_bytes: int = 34 * _MIB
    """What a decompressor may remember of its output. xz -9 and zstd --long ask for more: they are read as
    long as what comes out fits into it."""
    seconds: float = 1_800.0
    """Wall clock; the parent kills the child then."""
    memory_bytes: int = 1024 * _MIB
    """Address space of the child (RLIMIT_AS), interpreter included. What it really uses stays far below."""

    def allowing(self, *, total_bytes: int, entries: int) -> "Limits":
        """The same for that much content and so many entries; symlinks get more room with more entries."""
        link_bytes = max(Limits().link_bytes, Limits().link_bytes * entries // Limits().entries)
        return self._replace(total_bytes=total_bytes, entries=entries, link_bytes=link_bytes)


class UnpackResult(NamedTuple):
    """What is in the destination now: `entries` as counted for Limits, `total_bytes` of file contents."""

    entries: int
    total_bytes: int
