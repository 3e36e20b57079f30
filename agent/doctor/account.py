"""What the account that the agent runs as may do, asked of the kernel itself."""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Account:
    """`name` is for people."""

    uid: int
    gid: int
    name: str

    @property
    def is_ours(self) -> bool:
        """Whether this process runs as it."""
        return self.uid == os.geteuid()

    def may(self, flag: str, path: Path) -> bool | None:
        """Whether it may read (`r`), write (`w`) or pass through (`x`) an existing `path`; None when that
        cannot be told: only root may ask for others."""
        if not self.is_ours and os.geteuid() != 0:
            return None
        try:
            asked = self.start(["/usr/bin/test", f"-{flag}", str(path)])
        except (OSError, subprocess.SubprocessError):
            return None
        try:
            asked.communicate(timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired:  # a file system that hangs
            asked.kill()
            return None
        return asked.returncode == 0

    def start(self, argv: list[str]) -> "subprocess.Popen[bytes]":
        """Start a program as this account, with its groups; its input is a pipe, its output goes nowhere.
        Raises OSError, subprocess.SubprocessError."""
        return subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            user=None if self.is_ours else self.uid,
            group=None if self.is_ours else self.gid,
            extra_groups=None if self.is_ours else self._find_groups(),
        )

    def _find_groups(self) -> list[int]:
        try:
            pwd.getpwnam(self.name)
        except KeyError:
            return [self.gid]
        return os.getgrouplist(self.name, self.gid)


def find_account(name: str) -> Account | None:
    """By its name or number, "" for root; None when there is none."""
    try:
        found = pwd.getpwuid(int(name)) if name.isdecimal() else pwd.getpwnam(name or "root")
    except KeyError:
        return None
    return Account(found.pw_uid, found.pw_gid, found.pw_name)


def account_of(uid: int, gid: int) -> Account:
    """The one with these numbers, whether it has a name or not."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return Account(uid, gid, name)
