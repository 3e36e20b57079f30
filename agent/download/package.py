"""A package on this host, with the descriptor that it is verified and unpacked through."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO


@dataclass(frozen=True)
class Download:
    """`file` is open for reading at position 0, and its position is its holder's own.

    Verify and unpack through `file` only: the name may be replaced by somebody else, or gone, the descriptor
    cannot (S7)."""

    file: BinaryIO
    path: Path
    sha256: str
    size_bytes: int
    released: Callable[[], None] | None = field(default=None, repr=False, compare=False)
    """Called once when the descriptor was closed; without it the file is then removed."""

    def close(self) -> None:
        """Close the descriptor; who keeps the file may then remove it. Blocks. Safe to repeat."""
        if self.file.closed:
            return
        self.file.close()
        if self.released is None:
            self.path.unlink(missing_ok=True)
        else:
            self.released()
