"""How an agent that was killed goes on: a table over the phase in the journal and what `current` shows.

Every step of an attempt is safe to repeat, so going on means doing the phase again from its start. The
exceptions are the pairs where somebody else moved `current`, and an attempt that kills the agent again
and again."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from releasehand.model.status import Phase
from shared.attempt import CANCELLABLE, LIVE

from .record import AttemptRecord

MAX_STARTS: Final = 3  # starts of the agent that find the same generation unfinished (DESIGN §4 «Crash cap»)


class Shown(StrEnum):
    """What `current` names, seen from an attempt."""

    TARGET = "target"
    PREVIOUS = "previous"
    OTHER = "other"


class Resume(StrEnum):
    """What to do with an unfinished attempt."""

    REDO = "redo"  # the phase again, from its start
    REVERT = "revert"  # back to the previous release
    GIVE_UP = "give_up"  # end it as it stands: failed before the point of no return, broken in a revert


P, S, R = Phase, Shown, Resume

RESUME: Final[Mapping[tuple[Phase, Shown], Resume]] = {
    **{(phase, shown): R.REDO for phase in CANCELLABLE for shown in Shown},  # nothing was switched yet
    (P.ACTIVATING, S.TARGET): R.REDO,  # switched, perhaps not restarted
    (P.ACTIVATING, S.PREVIOUS): R.REDO,  # not switched
    (P.ACTIVATING, S.OTHER): R.REVERT,  # neither of ours: go back to what was good
    (P.CHECKING, S.TARGET): R.REDO,
    (P.CHECKING, S.PREVIOUS): R.REVERT,  # somebody took it back: finish that
    (P.CHECKING, S.OTHER): R.REVERT,
    (P.REVERTING, S.TARGET): R.REDO,
    (P.REVERTING, S.PREVIOUS): R.REDO,  # switched back, perhaps not restarted
    (P.REVERTING, S.OTHER): R.REDO,
}


def what_shows(record: AttemptRecord, current: str) -> Shown:
    """Compare the name of the active release ("" for none) with the attempt's own. A re-installed active
    release is both; then it counts as the target."""
    if record.target and current == record.target:
        return Shown.TARGET
    return Shown.PREVIOUS if current == record.previous else Shown.OTHER


def decide_resume(record: AttemptRecord, shown: Shown) -> Resume:
    """Look the pair up; an attempt with too many starts is taken back, or given up where there is
    nothing to take back. A revert gets twice as many: giving it up leaves the instance broken."""
    if record.phase not in LIVE:
        raise ValueError(f"cannot resume an attempt that is {record.phase}")
    if record.phase is Phase.REVERTING:
        return Resume.GIVE_UP if record.starts >= 2 * MAX_STARTS else RESUME[record.phase, shown]
    if record.starts >= MAX_STARTS:
        return Resume.GIVE_UP if record.cancellable else Resume.REVERT
    return RESUME[record.phase, shown]
