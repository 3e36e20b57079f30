"""The system calls that change files, as strace shows them, and where one of them can be broken."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

CHANGING: Final = (
    *("open", "openat", "creat", "write", "pwrite64", "writev", "pwritev", "copy_file_range", "sendfile"),
    *("fsync", "fdatasync", "syncfs", "sync_file_range", "truncate", "ftruncate", "fallocate"),
    *("rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat", "unlink", "unlinkat"),
    *("mkdir", "mkdirat", "rmdir", "chmod", "fchmod", "fchmodat", "chown", "fchown", "lchown", "fchownat"),
    *("utimensat", "utimes", "setxattr", "fsetxattr", "mknod", "mknodat"),
)
TRACE: Final = ("-e", "trace=" + ",".join(f"?{name}" for name in CHANGING))  # "?": not every machine has all
_OPENS: Final = frozenset({"open", "openat"})
_LINE: Final = re.compile(r"(?P<name>[a-z0-9_]+)\((?P<rest>.*)")
_RANDOM: Final = (
    (re.compile(r"release-[a-z0-9_]{8}\b"), "release-*"),
    (re.compile(r"\.lifted-[0-9a-f]{16}"), ".lifted-*"),
    (re.compile(r"[0-9a-f]{32,64}"), "*"),
)


class Fault(StrEnum):
    """What happens instead of the call."""

    KILL = "SIGKILL"
    FULL = "ENOSPC"
    BAD = "EIO"

    @property
    def option(self) -> str:
        """The same for strace."""
        return f"signal={self}" if self is Fault.KILL else f"error={self}"


@dataclass(frozen=True)
class Call:
    """One call of one tracee: the `nth` with its name there; `what` are the paths, the random parts left out,
    and `time` counts those that are alike."""

    name: str
    nth: int
    what: str
    time: int


@dataclass(frozen=True)
class Point:
    """Where a fault can be made."""

    tracee: str
    call: Call

    def __str__(self) -> str:
        return f"{self.tracee}: {self.call.name} {self.call.what} (the {self.call.nth}. of its name)"

    def is_like(self, call: Call) -> bool:
        """Whether `call`, of another run, is this one."""
        return (call.name, call.what, call.time) == (self.call.name, self.call.what, self.call.time)

    def options(self, fault: Fault, *, shift: int = 0) -> tuple[str, ...]:
        """What strace needs to make `fault` here; `shift` for a run that makes more calls before it."""
        return (*TRACE, "-e", f"inject={self.call.name}:{fault.option}:when={self.call.nth + shift}")


def changing_calls(log: Path, folder: Path) -> list[Call]:
    """The calls in `log` that change something below `folder`, in order."""
    return [call for call, _ in _read(log.read_text(errors="replace"), str(folder))]


def broken_call(log: Path, folder: Path) -> Call | None:
    """The call in `log` that a fault was made of; None if there is none, or it changed nothing of ours."""
    text = log.read_text(errors="replace")
    found = [call for call, line in _read(text, str(folder)) if "(INJECTED)" in line or line.endswith("= ?")]
    return found[-1] if found else None


def is_complete(log: Path) -> bool:
    """Whether the tracer has written all of it."""
    return log.exists() and bool(
        re.search(r"(^\+\+\+ .*|= \?)\n\Z", log.read_text(errors="replace"), re.MULTILINE)
    )


def points(tracee: str, log: Path, folder: Path) -> list[Point]:
    """Every point of a run of `tracee` that was traced into `log`."""
    return [Point(tracee, call) for call in changing_calls(log, folder)]


def _read(text: str, folder: str) -> Iterator[tuple[Call, str]]:
    counts: Counter[str] = Counter()
    alike: Counter[tuple[str, str]] = Counter()
    for line in text.splitlines():
        if (found := _LINE.match(line)) is None:
            continue
        name, rest = found["name"], found["rest"]
        counts[name] += 1
        if f"{folder}/" not in rest:
            continue
        if name in _OPENS and not ("O_CREAT" in rest or "O_TRUNC" in rest):
            continue
        what = _what(rest, folder)
        alike[name, what] += 1
        yield Call(name, counts[name], what, alike[name, what]), line


def _what(rest: str, folder: str) -> str:
    paths = re.findall(
        rf'(?:"|<){re.escape(folder)}(/[^">]*)|"([^"/][^"]*)"', rest.rpartition(" = ")[0] or rest
    )
    text = " ".join(first or second for first, second in paths)
    for pattern, instead in _RANDOM:
        text = pattern.sub(instead, text)
    return text
