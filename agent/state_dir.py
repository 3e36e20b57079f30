"""Whose a state directory is: one agent's at a time, and who that is."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from shared.errors import ReleasehandError

LOCK_NAME: Final = "agent.lock"
_MAX_PID_BYTES: Final = 32


class StateDirBusyError(ReleasehandError):
    """Another agent runs with this state directory. `holder` is its process, None when it cannot be told."""

    def __init__(self, state_dir: Path, holder: int | None) -> None:
        self.holder = holder
        who = f"process {holder}" if holder else "another process"
        super().__init__(f"cannot use {state_dir}: {who} is an agent with this state directory")


@contextmanager
def hold_state_dir(state_dir: Path) -> Iterator[None]:
    """Keep every other agent out of `state_dir`: two with one journal would undo each other's work.

    The lock ends with the process, however that ends. Raises StateDirBusyError, OSError."""
    fd = os.open(state_dir / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        _give_to_owner(fd, state_dir)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StateDirBusyError(state_dir, _read_pid(fd)) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(fd)


def find_holder(state_dir: Path) -> int | None:
    """The process whose state directory this is; None when no agent runs with it.

    The lock itself is not touched: one that tried it would be in the way of an agent that starts. Raises
    OSError where it cannot be looked at, PermissionError where it may not."""
    try:
        fd = os.open(state_dir / LOCK_NAME, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        pid, lock = _read_pid(fd), os.fstat(fd)
    finally:
        os.close(fd)
    return pid if pid is not None and _has_open(pid, lock) else None


def _give_to_owner(fd: int, state_dir: Path) -> None:
    """An agent that does not run as root must be able to open what a command of root made."""
    owner = state_dir.stat()
    if os.geteuid() == 0 and owner.st_uid != os.fstat(fd).st_uid:
        os.fchown(fd, owner.st_uid, owner.st_gid)


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, _MAX_PID_BYTES, 0).decode("ascii", "replace").strip()
    return int(text) if text.isdecimal() else None


def _is_of(pid: int, uid: int) -> bool:
    try:
        return os.stat(f"/proc/{pid}").st_uid == uid
    except FileNotFoundError:
        return False


def _has_open(pid: int, file: os.stat_result) -> bool:
    """Whether this process has the file open: one that took the number of an agent that died has not."""
    try:
        return any(_is_same(descriptor, file) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:  # a sandboxed agent is closed to its own account too: whose it is has to do
        return _is_of(pid, file.st_uid)


def _is_same(descriptor: Path, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), file)
    except FileNotFoundError:  # closed meanwhile
        return False
