"""The second layer: what the child may still do if an archive takes it over.

Layer one, the strict reader and the writer that works through descriptors alone, holds without any of this.
"""

import ctypes
import os
import resource
import signal
from typing import Final, NamedTuple

from agent.unpack import landlock
from agent.unpack.limits import Limits

CHILD_ID: Final = 61_183
"""User and group of the child where the agent is root. Nobody's: in no file, in no range that systemd gives
out (systemd.io/UIDS-GIDS), so nobody else can touch the half-made tree, and the child can touch nothing."""

_OPEN_FILES: Final = 256  # a path may be 64 deep, twice for a hard link
_SET_PDEATHSIG: Final = 1
_SET_DUMPABLE: Final = 4
_SET_NO_NEW_PRIVS: Final = 38
_CAPABILITY_VERSION_3: Final = 0x20080522
# CHOWN, DAC_OVERRIDE, FOWNER, KILL, SETGID, SETUID: to start a child under its own user, end it and take
# over what it made.
_NEEDED_CAPABILITIES: Final = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 5 | 1 << 6 | 1 << 7

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class Sandbox(NamedTuple):
    """What the second layer consists of on this host; no_new_privs, no capabilities and limits always do."""

    landlock_abi: int
    """0 or 1: a child that was taken over could write wherever its user can."""
    own_user: bool
    """False: the child is root, and one that was taken over could change modes and times of root's files."""


def describe() -> Sandbox:
    """Tell what `confine` will reach here, for the agent's capability report. Cheap; changes nothing."""
    return Sandbox(landlock.abi(), own_user=os.geteuid() != 0 or child_user() is not None)


def child_user() -> int | None:
    """Return the user that the child shall run as: CHILD_ID where this process is root and may do all that
    belongs to it, None to stay the same.
    """
    if os.geteuid() != 0:
        return None
    with open("/proc/self/status", "rb") as status:
        effective = next(line for line in status if line.startswith(b"CapEff:"))
    with open("/proc/self/uid_map", "rb") as lines:  # a user namespace may know fewer users
        mapped = any(
            first <= CHILD_ID < first + count for first, _, count in (map(int, x.split()) for x in lines)
        )
    capable = int(effective.split()[1], 16) & _NEEDED_CAPABILITIES == _NEEDED_CAPABILITIES
    return CHILD_ID if capable and mapped else None


def confine(destination: int, limits: Limits, user: int | None) -> None:
    """Give up all that unpacking into the descriptor `destination` does not need. Holds until this process
    ends. Everything must be imported before: afterwards no file can be opened any more.

    Raises OSError where the kernel has a means and it fails; then nothing may be unpacked.
    """
    os.umask(0)  # modes are given exactly; nobody else can reach the destination yet
    _prctl(_SET_NO_NEW_PRIVS, 1)
    _prctl(_SET_DUMPABLE, 0)
    landlock.allow_only(destination)
    if user is not None:
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    _drop_capabilities()
    end_with_parent()  # after the change of user, which takes it back
    for what, most in (
        (resource.RLIMIT_AS, limits.memory_bytes),
        (resource.RLIMIT_CPU, int(limits.seconds) + 1),
        (resource.RLIMIT_FSIZE, limits.total_bytes),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _limit(what, most)


def end_with_parent() -> None:
    """Have this process killed when the one that started it ends. Lost by a fork and by a change of user.
    Raises OSError."""
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)


def forbid_processes() -> None:
    """Let no further process or thread start; for when the last one that is needed has."""
    _limit(resource.RLIMIT_NPROC, 0)


def _limit(what: int, most: int) -> None:
    hard = resource.getrlimit(what)[1]
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(what, (allowed, allowed))


def _drop_capabilities() -> None:
    """Empty all sets: where the child stays root, it is an ordinary user with an interesting number. Not
    asked for where they are empty: a unit without privileges forbids the call."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    nothing, found = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    if _LIBC.capget(header, found) != 0 or (any(found) and _LIBC.capset(header, nothing) != 0):
        _fail()


def _prctl(option: int, value: int) -> None:
    if _LIBC.prctl(option, ctypes.c_ulong(value), *[ctypes.c_ulong(0)] * 3) != 0:
        _fail()


def _fail() -> None:
    code = ctypes.get_errno()
    raise OSError(code, os.strerror(code))
