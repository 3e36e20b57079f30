"""Who the tree belongs to: the child's own user while it is made, the agent afterwards."""

import errno
import os
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_DEPTH: Final = 600  # a path of 1,024 bytes has fewer parts


def hand_over(root: int, user: int) -> None:
    """Let `user` write into the directory behind the descriptor `root`. Raises OSError."""
    os.fchown(root, user, user)


def hand_back(root: int) -> None:
    """Own that directory again, whatever lies in it. Raises OSError."""
    os.fchown(root, os.geteuid(), os.getegid())


def take_over(root: int, user: int, *, contained: bool) -> None:
    """Make this process's user the owner of the tree below the descriptor `root`, and of the root itself.

    A child that was not `contained` by Landlock, and that an archive took over, may have linked other
    people's files in: then each file is looked at, which takes as long again, and only what belongs to `user`
    changes hands. `user` must have no process left. Follows no link; safe to repeat. Raises OSError.
    """
    hand_back(root)
    _take_over(root, None if contained else user, _MAX_DEPTH)


def _take_over(directory: int, only_of: int | None, depth: int) -> None:
    if depth == 0:
        raise OSError(errno.ELOOP, "the tree is deeper than any archive may make it")
    with os.scandir(directory) as entries:
        names = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in names:
        if only_of is None or os.stat(name, dir_fd=directory, follow_symlinks=False).st_uid == only_of:
            os.chown(name, os.geteuid(), os.getegid(), dir_fd=directory, follow_symlinks=False)
        if is_directory:
            fd = os.open(name, _DIRECTORY, dir_fd=directory)
            try:
                _take_over(fd, only_of, depth - 1)
            finally:
                os.close(fd)
