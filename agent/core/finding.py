"""What an examination of this host found: how bad it is, what it is, why, and how to mend it."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum


class Level(StrEnum):
    """The names are part of what `doctor --json` answers."""

    OK = "ok"
    WARNING = "warning"  # works today; look at it before it does not
    PROBLEM = "problem"  # something that this host is for does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """`check` is a stable name like `disk.space`, `subject` what was looked at. `why` and `mend` are "" where
    all is well; `mend` is a command, or what a person has to do."""

    check: str
    subject: str
    level: Level
    what: str
    why: str = ""
    mend: str = ""


def fine(check: str, subject: str, what: str) -> Finding:
    return Finding(check, subject, Level.OK, what)


def warning(check: str, subject: str, what: str, *, why: str, mend: str) -> Finding:
    return Finding(check, subject, Level.WARNING, what, why, mend)


def problem(check: str, subject: str, what: str, *, why: str, mend: str) -> Finding:
    return Finding(check, subject, Level.PROBLEM, what, why, mend)


def worst(findings: Sequence[Finding]) -> Level:
    """OK when there is none."""
    order = list(Level)
    return max((one.level for one in findings), key=order.index, default=Level.OK)
