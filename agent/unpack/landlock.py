"""Landlock (landlock(7)): the kernel lets this thread, and what it starts, do nothing but build one tree.

Thin over three system calls, whose numbers are the same on all machines that Python runs on but Alpha.
"""

import ctypes
import errno
import os
from typing import Final

_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_VERSION: Final = 1  # flag of landlock_create_ruleset: tell the ABI
_PATH_BENEATH: Final = 1

# LANDLOCK_ACCESS_FS_*, by the ABI that knows them first
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_MAKE_DIR, _MAKE_REG, _MAKE_SYM = 1 << 7, 1 << 8, 1 << 12
_REFER: Final = 1 << 13
_KNOWN_FS: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_TCP: Final = 0b11  # bind and connect, from ABI 4
_SCOPES: Final = 0b11  # abstract UNIX sockets and signals, from ABI 6
_ALLOWED: Final = _WRITE_FILE | _READ_FILE | _READ_DIR | _MAKE_DIR | _MAKE_REG | _MAKE_SYM | _REFER

# ABI 1 (Linux 5.13 to 5.18) refuses every hard link between two directories: it is as good as none here.
LEAST_ABI: Final = 2

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = (("fs", ctypes.c_uint64), ("net", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"  # what _pack_ means, said aloud (Python 3.14 asks for it)
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def abi() -> int:
    """Return the Landlock ABI of this kernel; 0 where it is missing, switched off or withheld (seccomp)."""
    try:
        return _call(_CREATE_RULESET, None, 0, _VERSION)
    except OSError as exc:
        if exc.errno in (errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
            return 0
        raise


def allow_only(directory: int) -> bool:
    """Allow files, directories and links to be made below the descriptor `directory`; no other file to be
    opened, run, renamed or removed; no TCP; no signal to others. Descriptors that are open stay usable.

    Holds for this thread and those it starts, for ever. chmod, chown and utime are not governed. False
    means that the kernel has no Landlock, or ABI 1. PR_SET_NO_NEW_PRIVS must be set. Raises OSError.
    """
    version = abi()
    if version < LEAST_ABI:
        return False
    fs = _KNOWN_FS[max(known for known in _KNOWN_FS if known <= version)]
    rules = _Ruleset(fs, _TCP if version >= 4 else 0, _SCOPES if version >= 6 else 0)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(_CREATE_RULESET, ctypes.byref(rules), ctypes.c_size_t(size), 0)
    try:
        beneath = _PathBeneath(_ALLOWED, directory)
        _call(_ADD_RULE, ruleset, _PATH_BENEATH, ctypes.byref(beneath), 0)
        _call(_RESTRICT_SELF, ruleset, 0)
    finally:
        os.close(ruleset)
    return True


def _call(number: int, *arguments: object) -> int:
    result: int = _LIBC.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
