"""The release log of one operation: what happened, in the order in which it was recorded."""

from enum import StrEnum

from pydantic import Field

from .codes import FailureCode
from .fields import Answer, Empty, Time
from .status import Phase, Status


class EventKind(StrEnum):
    """What an event of an operation tells. `accepted` and `ended` are there once for the operation and once
    for each instance; `phase_started` and `phase_ended` come in pairs."""

    ACCEPTED = "accepted"
    STARTED = "started"  # the operation: its first instance is at work
    DISPATCHED = "dispatched"  # an attempt was sent to its host
    PHASE_STARTED = "phase_started"
    PHASE_ENDED = "phase_ended"
    LOG_TAIL = "log_tail"  # what the host logged last in an attempt
    RETRY_SCHEDULED = "retry_scheduled"
    CANCEL_ASKED = "cancel_asked"
    SUPERSEDED = "superseded"  # a forced rollback took the instance over
    ENDED = "ended"
    OUTCOME_LEARNED = "outcome_learned"  # the truth about an outcome that was unknown


class EventOutcome(StrEnum):
    """How a phase, an instance's share or the operation ended."""

    OK = "ok"
    KEPT = "kept"  # the release was complete on the host already
    ALREADY = "already"  # the release was active already
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"  # the host has not said
    COMPLETED = "completed"


class ReleaseEvent(Answer):
    """One event; ids grow within an operation. An event of the operation itself has no instance.

    In `message` and `log_tail`, which hosts wrote, control characters are escapes; a tail keeps its lines."""

    id: int
    at: Time
    kind: EventKind
    instance_id: str
    agent_id: str
    generation: int
    attempt: int
    phase: Phase | Empty
    outcome: EventOutcome | Empty
    duration_s: float | None
    code: FailureCode | Empty
    message: str
    log_tail: str


class ReleaseLog(Answer):
    """A page of the log; the id of the other kind of operation is empty. `status` is the operation's now."""

    deploy_id: str = ""
    rollback_id: str = ""
    status: Status
    events: list[ReleaseEvent] = Field(default_factory=list)
    next_after: int
    has_more: bool


class EndOfLog(Answer):
    """The last word of a stream: the operation has ended, and all of its log was sent."""

    deploy_id: str = ""
    rollback_id: str = ""
    status: Status
