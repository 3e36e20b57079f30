"""Which commands may act on an instance (DESIGN «Agent link»): the host's own memory decides, not who
speaks last.

A generation, once accepted, shuts out every lower one for ever; so a controller that lost its
leadership, a frame that was late by an hour, or a second controller cannot undo a newer decision."""

from collections.abc import Sequence
from dataclasses import dataclass

from releasehand.model.status import Phase
from shared.attempt import CANCELLABLE, TERMINAL
from shared.frames import Ref

from .record import order_of


@dataclass(frozen=True)
class Standing:
    """Where an attempt that is recorded here stands."""

    ref: Ref
    phase: Phase


@dataclass(frozen=True)
class Accept:
    """Journal the command and run it: first cancel `supersede`, then wait for the end of `behind`."""

    supersede: tuple[Ref, ...] = ()
    behind: Ref | None = None


@dataclass(frozen=True)
class AnswerRecorded:
    """It is known here: do nothing but say again where it stands, if no report of it is on its way."""


@dataclass(frozen=True)
class RefuseStale:
    """Something newer was accepted before: it never runs here."""


@dataclass(frozen=True)
class Stop:
    """End the attempt now; the host is left untouched."""


@dataclass(frozen=True)
class LetFinish:
    """Past the point of no return: its own end will tell."""


@dataclass(frozen=True)
class RecordCancelled:
    """It never came here: record it as cancelled, so that a late execute of it never runs, and say so."""


def decide_execute(
    ref: Ref, *, known: Phase | None, newest: Ref | None, unfinished: Sequence[Standing]
) -> Accept | AnswerRecorded | RefuseStale:
    """`known` is where exactly this attempt stands, `newest` the highest accepted of the instance,
    `unfinished` its attempts that have not ended."""
    if known is not None:
        return AnswerRecorded()
    if newest is not None and order_of(ref) <= order_of(newest):
        return RefuseStale()
    running = next((one.ref for one in unfinished if one.phase not in CANCELLABLE), None)
    return Accept(supersede=tuple(one.ref for one in unfinished if one.phase in CANCELLABLE), behind=running)


def decide_cancel(known: Phase | None) -> Stop | LetFinish | AnswerRecorded | RecordCancelled:
    """`known` is where exactly the attempt to cancel stands, None if it was never accepted here."""
    if known is None:
        return RecordCancelled()
    if known in TERMINAL:
        return AnswerRecorded()
    return Stop() if known in CANCELLABLE else LetFinish()
