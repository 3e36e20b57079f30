"""File operations that must hold: one syncfs, deletion that no tree can break.

Everything here blocks; call it from a thread. Everything raises OSError; callers translate (agent.errors).
"""

import ctypes
import errno
import os
import threading
import weakref
from pathlib import Path
from typing import Final

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Witness:
    """Sees each write error of the file system of `path` from now on, whoever is told of it besides.

    The kernel remembers one error and tells each open descriptor once, of what came after it was opened
    (errseq_t; syncfs(2)). So a witness is made before the first byte is written, and no error is missed
    because another syncfs was told first.
    """

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._fd = os.open(path, _DIRECTORY)
        self._close = weakref.finalize(self, os.close, self._fd)
        self._closing = threading.Lock()

    def close(self) -> None:
        """Give the descriptor back, at once even while a thread that nobody waits for any more is in `sync`.
        Safe to repeat; the last one who holds the witness does it too."""
        with self._closing:
            self._close()

    def sync(self) -> None:
        """Make everything written so far to the file system durable: one syncfs(2), result checked.

        Raises OSError for any error since the witness was made, and for a closed one; a second call tells
        only of newer errors. os.sync() would not do: sync(2) reports no write error."""
        with self._closing:
            if not self._close.alive:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            fd = os.dup(self._fd)  # the same open file, which is what the kernel tells
        try:
            if _LIBC.syncfs(fd) != 0:
                code = ctypes.get_errno()
                raise OSError(code, os.strerror(code))
        finally:
            os.close(fd)


def empty_directory(path: Path) -> None:
    """Delete everything in the directory `path`, which stays. Follows no link. Safe to repeat.

    Nested directories are first moved up next to their parents, so that neither recursion, nor open
    descriptors, nor PATH_MAX grows with the depth of the tree (an archive can have thousands of levels).
    """
    top = os.open(path, _DIRECTORY)
    try:
        _Emptying(top).run()
    finally:
        os.close(top)


def remove_directory(path: Path) -> None:
    """Delete the directory `path` with all in it; a missing one is fine. Follows no link. Safe to repeat."""
    try:
        empty_directory(path)
        os.rmdir(path)
    except FileNotFoundError:
        return


class _Emptying:
    """One run of empty_directory, below the descriptor `top`."""

    def __init__(self, top: int) -> None:
        self._top = top
        self._token = os.urandom(8).hex()
        self._moved = 0

    def run(self) -> None:
        while names := os.listdir(self._top):
            for name in names:
                self._remove(name)

    def _remove(self, name: str) -> None:
        try:
            fd = os.open(name, _DIRECTORY, dir_fd=self._top)
        except OSError:  # not a directory, or one that may not be opened: unlink says which
            os.unlink(name, dir_fd=self._top)
            return
        try:
            with os.scandir(fd) as found:
                entries = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in found]
            for inner, is_directory in entries:
                if is_directory:
                    self._lift(fd, inner)
                else:
                    os.unlink(inner, dir_fd=fd)
        finally:
            os.close(fd)
        os.rmdir(name, dir_fd=self._top)

    def _lift(self, parent: int, name: str) -> None:
        self._moved += 1
        # A name that nothing here can have: rename(2) would fail on another directory that is not empty.
        os.rename(name, f".lifted-{self._token}-{self._moved}", src_dir_fd=parent, dst_dir_fd=self._top)
