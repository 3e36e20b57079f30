"""Runs a program from which the kernel withholds Landlock, as old kernels and some containers do, or what
takes privileges, as units do that forbid @privileged:

    withheld.py [--privileged] PROGRAM [ARGUMENT]...

By seccomp(2): the three system calls of Landlock fail with ENOSYS, or those on the identity of a process and
the owner of a file with EPERM, for the program and all that it starts."""

import ctypes
import errno
import os
import platform
import struct
import sys
from collections.abc import Sequence

LANDLOCK_CALLS = (444, 445, 446)  # on all machines but Alpha
PRIVILEGED_CALLS = {  # chown, fchown, lchown, fchownat, setgroups, setresuid, setresgid, capset
    "x86_64": (92, 93, 94, 260, 116, 117, 119, 126),
    "aarch64": (55, 54, 159, 147, 149, 91),  # has no chown, no lchown
}
_LOAD_NUMBER = (0x20, 0, 0, 0)  # BPF_LD | BPF_W | BPF_ABS, seccomp_data.nr
_JUMP_IF_EQUAL, _RETURN = 0x15, 0x06
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_SECCOMP, _FILTER_MODE = 38, 22, 2


def withhold(calls: Sequence[int], error: int) -> None:
    """Have `calls` fail with `error`. Holds for this process and its children, for ever. Raises OSError."""
    rules = [_LOAD_NUMBER]
    for left, number in reversed(list(enumerate(reversed(calls)))):
        rules.append((_JUMP_IF_EQUAL, left + 1, 0, number))
    rules += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _FAIL | error)]
    code = ctypes.create_string_buffer(b"".join(struct.pack("<HBBI", *rule) for rule in rules))
    program = struct.pack("@HP", len(rules), ctypes.addressof(code))
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value, more in ((_SET_NO_NEW_PRIVS, 1, None), (_SET_SECCOMP, _FILTER_MODE, program)):
        if libc.prctl(option, ctypes.c_ulong(value), more, ctypes.c_ulong(0), ctypes.c_ulong(0)) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


if __name__ == "__main__":
    program = sys.argv[1:]
    if program[0] == "--privileged":
        program = program[1:]
        withhold(PRIVILEGED_CALLS[platform.machine()], errno.EPERM)
    else:
        withhold(LANDLOCK_CALLS, errno.ENOSYS)
    os.execvp(program[0], program)  # noqa: S606 - no shell is wanted
