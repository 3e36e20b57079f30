"""How much an archive may ask of this host, and what came of it."""

from dataclasses import dataclass

_MIB = 1024 * 1024


@dataclass(frozen=True)
class Limits:
    """What unpacking one archive may use. Passing a limit refuses the archive, whatever it claimed before."""

    total_bytes: int = 8 * 1024 * _MIB
    """Sum of all file contents, and of what extended headers hold."""
    entries: int = 200_000
    """Files, directories and links, and the directories that only their paths imply."""
    depth: int = 64
    """Parts of one path."""
    ratio: int = 1_000
    """Bytes out for one byte in, looked at once `ratio_from_bytes` came out (gzip cannot pass 1,032)."""
    ratio_from_bytes: int = 256 * _MIB
    name_bytes: int = 32 * _MIB
    """Sum of all names and link targets: they are held in memory."""
    seconds: float = 1_800.0
    """Wall clock; the parent kills the child then."""
    memory_bytes: int = 1024 * _MIB
    """Address space of the child (RLIMIT_AS), interpreter included."""


@dataclass(frozen=True)
class UnpackResult:
    """What is in the destination now: `entries` as counted for Limits, `total_bytes` of file contents."""

    entries: int
    total_bytes: int
