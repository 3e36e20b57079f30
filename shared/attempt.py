"""The machine of one attempt: what follows each phase, read by the agent, the controller, the tests and the
docs."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from releasehand.model.status import Phase


class Outcome(StrEnum):
    """How an attempt left a phase."""

    OK = "ok"
    KEPT = "kept"  # the release is complete on the host already: nothing to fetch or unpack
    ALREADY = "already"  # the release is active and good already: nothing to do at all
    FAILED = "failed"
    CANCELLED = "cancelled"


P, O = Phase, Outcome

TRANSITIONS: Final[Mapping[tuple[Phase, Outcome], Phase]] = {
    (P.QUEUED, O.OK): P.DOWNLOADING,
    (P.QUEUED, O.KEPT): P.STAGED,
    (P.QUEUED, O.ALREADY): P.DONE,
    (P.QUEUED, O.FAILED): P.FAILED,
    (P.QUEUED, O.CANCELLED): P.CANCELLED,
    (P.DOWNLOADING, O.OK): P.VERIFYING,
    (P.DOWNLOADING, O.FAILED): P.FAILED,
    (P.DOWNLOADING, O.CANCELLED): P.CANCELLED,
    (P.VERIFYING, O.OK): P.UNPACKING,
    # without a digest in the command only the download tells which release it is
    (P.VERIFYING, O.KEPT): P.STAGED,
    (P.VERIFYING, O.ALREADY): P.DONE,
    (P.VERIFYING, O.FAILED): P.FAILED,
    (P.VERIFYING, O.CANCELLED): P.CANCELLED,
    (P.UNPACKING, O.OK): P.STAGED,
    (P.UNPACKING, O.FAILED): P.FAILED,
    (P.UNPACKING, O.CANCELLED): P.CANCELLED,
    (P.STAGED, O.OK): P.ACTIVATING,
    (P.STAGED, O.FAILED): P.FAILED,
    (P.STAGED, O.CANCELLED): P.CANCELLED,
    # the point of no return: from here a cancel waits for the end
    (P.ACTIVATING, O.OK): P.CHECKING,
    (P.ACTIVATING, O.FAILED): P.REVERTING,
    (P.CHECKING, O.OK): P.DONE,
    (P.CHECKING, O.FAILED): P.REVERTING,
    (P.REVERTING, O.OK): P.REVERTED,
    (P.REVERTING, O.FAILED): P.BROKEN,  # a person must look; never retried on its own
}

TERMINAL: Final = frozenset({P.DONE, P.FAILED, P.CANCELLED, P.REVERTED, P.BROKEN})
LIVE: Final = frozenset(Phase) - TERMINAL
PAST_NO_RETURN: Final = frozenset({P.ACTIVATING, P.CHECKING, P.REVERTING})
CANCELLABLE: Final = LIVE - PAST_NO_RETURN
DURABLE: Final = frozenset({P.QUEUED, P.STAGED, P.ACTIVATING, P.REVERTING}) | TERMINAL
"""Phases whose entry is on disk before anything of them happens."""


class UnlistedMoveError(Exception):
    """A move that no table lists: a bug of the caller. Nothing was changed."""

    def __init__(self, machine: str, state: StrEnum, event: StrEnum) -> None:
        self.machine, self.state, self.event = machine, state, event
        super().__init__(f"cannot move {machine}: {state} has no way out by {event}")


def advance(phase: Phase, outcome: Outcome) -> Phase:
    """The phase that follows; raises UnlistedMoveError where the table lists none."""
    try:
        return TRANSITIONS[phase, outcome]
    except KeyError:
        raise UnlistedMoveError("attempt", phase, outcome) from None
