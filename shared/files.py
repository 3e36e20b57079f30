"""Files that are there whole or not at all, and stay after a power cut.

Everything here blocks; call it from a thread. Everything raises OSError; callers translate.
"""

import errno
import os
import stat
import threading
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import Final

_MAKING: Final = threading.RLock()


def sync_directory(path: Path) -> None:
    """Make the names in the directory `path` durable (fsync)."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def open_file(path: Path) -> BufferedReader:
    """Open what somebody else may have put there, for reading. Raises OSError; for a link, a pipe and all
    else that is no file, too: it could lead anywhere, or keep its reader waiting."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "it is no file", str(path))
    return os.fdopen(fd, "rb")


def make_open_directory(path: Path) -> None:
    """Make the directory `path` and those above it, where missing, for everybody to read (0755) whatever the
    umask. Safe to repeat, and from several threads; a kill leaves at most an empty ".<name>.new".

    Somebody else may write into the directory above: a link that he put in the way is not followed, and what
    he made is not taken over."""
    with _MAKING:
        if not path.is_dir():
            make_open_directory(path.parent)
            _make_open(path, path.with_name(f".{path.name}.new"))


def _make_open(path: Path, draft: Path) -> None:
    try:
        draft.mkdir(mode=0o700)
    except FileExistsError:
        draft.rmdir()  # of one that was killed; no other thread is here
        draft.mkdir(mode=0o700)
    fd = os.open(draft, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.fchmod(fd, 0o755)  # before it has its name: nobody finds one that is closed
    finally:
        os.close(fd)
    draft.rename(path)


def replace_file(path: Path, content: bytes, *, mode: int = 0o644, durable: bool = True) -> None:
    """Make `path` hold exactly `content`; a reader sees the old file or the new one, never a part.

    With `durable` both content and name are on disk on return; without, a later sync_filesystem must follow
    before anything relies on the file. Safe to repeat. An error leaves no draft behind; a kill may leave
    "<name>.new", which the next call takes over.
    """
    draft = path.with_name(f"{path.name}.new")
    try:
        _write_draft(draft, content, mode, durable=durable)
        os.rename(draft, path)
    except OSError:
        with suppress(OSError):  # the first error is the one to tell
            os.unlink(draft)
        raise
    if durable:
        sync_directory(path.parent)


def place_file(path: Path, content: bytes, *, mode: int) -> bool:
    """Make `path` with exactly `content` unless it exists; False when it does, and nothing is changed then.

    Whole and on disk when its name appears (link(2)): of several that try, one wins, and no reader sees a
    part."""
    draft = path.with_name(f"{path.name}.{os.getpid()}.{threading.get_ident()}.new")
    try:
        _write_draft(draft, content, mode, durable=True)
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        with suppress(FileNotFoundError):
            os.unlink(draft)
    sync_directory(path.parent)
    return True


def _write_draft(draft: Path, content: bytes, mode: int, *, durable: bool) -> None:
    fd = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        os.fchmod(fd, mode)  # the umask took part in os.open, and a draft that was left over has its own
        with open(fd, "wb", closefd=False) as file:
            file.write(content)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
