"""Makes files below one directory descriptor, and nowhere else (security notes 2.4, point 3).

Every call names one component below a descriptor that was opened without following a link, so no name, and
nothing that an archive made before, can lead out. Nothing is overwritten: files are made with O_EXCL.
"""

import os
from collections.abc import Iterable
from typing import Final

from agent.unpack.writeback import start_writeback

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# For a larger write Linux looks for larger pages first, and where memory is in pieces it moves others about:
# that took as long as all else. (A thread beside others would lose more by taking turns after each piece.)
_WRITE_BYTES: Final = 32 * 1024
_WRITEBACK_BYTES: Final = 8 * 1024 * 1024  # so much of one file; small files are better written together
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC

_NONE: Final = -1


class Writer:
    """Writes below `root`, a descriptor that stays the caller's. Raises OSError. The umask must be 0.

    Paths are checked ones (agent.unpack.entry): parts joined by "/".
    """

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: list[str] = []
        self._opened: list[int] = []  # one for each part of _path
        self._file, self._unsaid = _NONE, 0  # the file at hand; so much of it nobody was told to write
        self._here = ("", root)  # archives list a directory's files together: no need to walk for each

    def make_directory(self, path: str) -> None:
        """Make the directory `path` and those above it, 0755 each, where missing."""
        self._enter(path)

    def make_file(self, path: str, content: Iterable[memoryview], *, executable: bool) -> None:
        """Make a new file of all of `content`, 0755 or 0644."""
        self.begin_file(path, executable=executable)
        try:
            for view in content:
                self.append(view)
        finally:
            self._end_file()

    def begin_file(self, path: str, *, executable: bool) -> None:
        """Make a new empty file, 0755 or 0644; until the next one, `append` adds to it."""
        directory, _, name = path.rpartition("/")
        where, folder = self._here
        if directory != where:
            folder = self._enter(directory)
        self._end_file()
        self._file = os.open(name, _NEW_FILE, 0o755 if executable else 0o644, dir_fd=folder)

    def append(self, view: memoryview) -> None:
        """Add `view` to the file that was begun last."""
        size = len(view)
        written = os.write(self._file, view if size <= _WRITE_BYTES else view[:_WRITE_BYTES])
        while written < size:
            written += os.write(self._file, view[written : written + _WRITE_BYTES])
        self._unsaid += size
        if self._unsaid >= _WRITEBACK_BYTES:
            start_writeback(self._file)
            self._unsaid = 0

    def _end_file(self) -> None:
        if self._file >= 0:
            fd, self._file, self._unsaid = self._file, _NONE, 0
            os.close(fd)

    def make_hardlink(self, path: str, target: str) -> None:
        """Make `path` another name of the file `target`, which this writer made before."""
        source = Writer(self._root)  # its own descent: the two may lie in different directories
        from_directory, _, from_name = target.rpartition("/")
        directory, _, name = path.rpartition("/")
        try:
            os.link(
                from_name,
                name,
                src_dir_fd=source._enter(from_directory),
                dst_dir_fd=self._enter(directory),
                follow_symlinks=False,
            )
        finally:
            source.close()

    def make_symlink(self, path: str, target: str) -> None:
        """Make a symlink. The caller has resolved `target`, and makes no file after the first symlink."""
        directory, _, name = path.rpartition("/")
        os.symlink(target, name, dir_fd=self._enter(directory))

    def close(self) -> None:
        """Close what is open; the root stays open."""
        self._end_file()
        self._leave(0)

    def _enter(self, path: str) -> int:
        where, fd = self._here
        if path == where:
            return fd
        parts = path.split("/") if path else []
        shared = 0
        for have, want in zip(self._path, parts, strict=False):
            if have != want:
                break
            shared += 1
        self._leave(shared)
        for part in parts[shared:]:
            above = self._opened[-1] if self._opened else self._root
            try:
                fd = os.open(part, _OPEN_DIRECTORY, dir_fd=above)
            except FileNotFoundError:
                os.mkdir(part, 0o755, dir_fd=above)
                fd = os.open(part, _OPEN_DIRECTORY, dir_fd=above)
            self._opened.append(fd)
            self._path.append(part)
        self._here = (path, self._opened[-1] if self._opened else self._root)
        return self._here[1]

    def _leave(self, keep: int) -> None:
        self._here = ("", self._root)
        while len(self._opened) > keep:
            os.close(self._opened.pop())
            self._path.pop()
