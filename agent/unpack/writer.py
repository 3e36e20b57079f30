"""Makes files below one directory descriptor, and nowhere else (security notes 2.4, point 3).

Every call names one component below a descriptor that was opened without following a link, so no name, and
nothing that an archive made before, can lead out. Nothing is overwritten: files are made with O_EXCL.
"""

import os
from collections.abc import Iterable
from typing import Final

from agent.unpack.entry import Parts

_OPEN_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Writer:
    """Writes below `root`, a descriptor that stays the caller's. Raises OSError. The umask must be 0."""

    def __init__(self, root: int) -> None:
        self._root = root
        self._path: list[str] = []
        self._opened: list[int] = []  # one for each part of _path: archives list a directory's files together

    def make_directory(self, parts: Parts) -> None:
        """Make the directory `parts` and those above it, 0755 each, where missing."""
        self._enter(parts)

    def make_file(self, parts: Parts, content: Iterable[memoryview], *, executable: bool) -> None:
        """Make a new file of all of `content`, 0755 or 0644."""
        fd = os.open(parts[-1], _NEW_FILE, 0o755 if executable else 0o644, dir_fd=self._enter(parts[:-1]))
        try:
            for view in content:
                written = os.write(fd, view)
                while written < len(view):
                    written += os.write(fd, view[written:])
        finally:
            os.close(fd)

    def make_hardlink(self, parts: Parts, target: Parts) -> None:
        """Make `parts` another name of the file `target`, which this writer made before."""
        source = Writer(self._root)  # its own descent: the two may lie in different directories
        try:
            os.link(
                target[-1],
                parts[-1],
                src_dir_fd=source._enter(target[:-1]),
                dst_dir_fd=self._enter(parts[:-1]),
                follow_symlinks=False,
            )
        finally:
            source.close()

    def make_symlink(self, parts: Parts, target: str) -> None:
        """Make a symlink. The caller has resolved `target`, and makes no file after the first symlink."""
        os.symlink(target, parts[-1], dir_fd=self._enter(parts[:-1]))

    def close(self) -> None:
        """Close what is open; the root stays open."""
        self._leave(0)

    def _enter(self, parts: Parts) -> int:
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
        return self._opened[-1] if self._opened else self._root

    def _leave(self, keep: int) -> None:
        while len(self._opened) > keep:
            os.close(self._opened.pop())
            self._path.pop()
