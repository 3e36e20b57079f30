"""One instance's share of an operation: its value, its machine and the moves that people or time make.

Moves that reports make are in `report`; what to send next is in `plan`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from releasehand.model import ENDED, FailureCode, OperationKind, Phase, Status, TaskResult, WaitingFor
from shared.attempt import PAST_NO_RETURN, UnlistedMoveError

DISPATCHED_GRACE: Final = timedelta(seconds=30)
"""How long after its budget a dispatched task waits for its agent's word."""


class Event(StrEnum):
    """What can happen to a task."""

    DISPATCHED = "dispatched"
    ADVANCED = "advanced"  # a report of a phase
    RETRIED = "retried"  # an attempt failed, another one follows
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOTED = "noted"  # what is written on it changed, not where it stands


S, E = Status, Event

TRANSITIONS: Final[Mapping[tuple[Status, Event], Status]] = {
    (S.PENDING, E.DISPATCHED): S.IN_PROGRESS,
    (S.PENDING, E.FAILED): S.FAILED,  # its time was over, or its instance went away, before it was sent
    (S.PENDING, E.CANCELLED): S.CANCELLED,
    (S.IN_PROGRESS, E.DISPATCHED): S.IN_PROGRESS,  # the next attempt
    (S.IN_PROGRESS, E.ADVANCED): S.IN_PROGRESS,
    (S.IN_PROGRESS, E.RETRIED): S.IN_PROGRESS,
    (S.IN_PROGRESS, E.SUCCEEDED): S.COMPLETED,
    (S.IN_PROGRESS, E.FAILED): S.FAILED,
    (S.IN_PROGRESS, E.CANCELLED): S.CANCELLED,
    (S.PENDING, E.NOTED): S.PENDING,  # what it waits for
    (S.IN_PROGRESS, E.NOTED): S.IN_PROGRESS,  # the same, or that a cancel was asked
    (S.FAILED, E.NOTED): S.FAILED,  # the truth about an unknown outcome
}


def advance(status: Status, event: Event) -> Status:
    """The status that follows; raises UnlistedMoveError where the table lists none."""
    try:
        return TRANSITIONS[status, event]
    except KeyError:
        raise UnlistedMoveError("task", status, event) from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A task row as a value. What never changes stands first."""

    id: int
    operation: int
    kind: OperationKind
    operation_id: str
    service: str
    instance_id: str
    agent_id: str
    generation: int
    target_version: str
    package_url: str  # without its query
    url_query: int | None = None  # where that is stored, sealed
    package_sha256: str  # which release is meant; "" leaves it to the version
    source_sha256: str  # what a download from `package_url` must have; "" if nobody knows
    force: bool
    accepted_at: datetime
    deadline_at: datetime  # acceptance + timeout
    activation_bound_s: float  # activate + revert bounds of the host

    status: Status = Status.PENDING
    attempt: int = 0  # 0 until first dispatched
    phase: Phase | None = None
    waiting_for: WaitingFor | None = None
    error_code: FailureCode | None = None
    error_message: str = ""
    result: TaskResult | None = None
    retries_left: int = 0
    last_code: FailureCode | None = None  # why the attempt before this one failed
    started_at: datetime | None = None
    completed_at: datetime | None = None
    updated_at: datetime
    closes_at: datetime  # the sweeper ends it then
    retry_at: datetime | None = None
    cancel_asked_at: datetime | None = None
    superseded_by: int | None = None
    behind: int | None = None  # the superseded task whose end it waits for

    @property
    def is_open(self) -> bool:
        return self.status not in ENDED

    @property
    def is_on_host(self) -> bool:
        """An attempt was sent and has not ended, as far as is known."""
        return self.status is Status.IN_PROGRESS and self.waiting_for is not WaitingFor.RETRY_BACKOFF


@dataclass(frozen=True, slots=True)
class TaskMove:
    """A change from one value to another. Stored only where the row still is `before` (compare-and-set)."""

    before: Task
    after: Task
    event: Event
    message: str = ""


def closing_time(task: Task, phase: Phase | None) -> datetime:
    """When a dispatched task is closed without word from its agent (docs/architecture.md «Time»)."""
    if phase in PAST_NO_RETURN:
        return task.deadline_at + timedelta(seconds=task.activation_bound_s) + DISPATCHED_GRACE
    return task.deadline_at + DISPATCHED_GRACE


def dispatch(task: Task, now: datetime) -> TaskMove:
    """The next attempt goes to the host. Why the one before failed stays in `last_code` alone: what ends well
    must not carry an error."""
    after = replace(
        task,
        status=advance(task.status, Event.DISPATCHED),
        attempt=task.attempt + 1,
        phase=Phase.QUEUED,
        waiting_for=WaitingFor.AGENT_WORKING,
        error_code=None,
        error_message="",
        started_at=task.started_at or now,
        updated_at=now,
        closes_at=closing_time(task, Phase.QUEUED),
        retry_at=None,
    )
    return TaskMove(task, after, Event.DISPATCHED)


def fail(task: Task, code: FailureCode, message: str, now: datetime) -> TaskMove:
    after = replace(
        task,
        status=advance(task.status, Event.FAILED),
        error_code=code,
        error_message=message,
        waiting_for=None,
        completed_at=now,
        updated_at=now,
        retry_at=None,
    )
    return TaskMove(task, after, Event.FAILED, message)


def cancel(task: Task, now: datetime) -> TaskMove | None:
    """Ask for a task's end. What is not on the host ends at once; the rest waits for the host's word.

    None when it has ended, or was asked before."""
    if not task.is_open or task.cancel_asked_at is not None:
        return None
    if not task.is_on_host:
        after = replace(
            task,
            status=advance(task.status, Event.CANCELLED),
            error_code=None,  # why the attempt before failed stays in `last_code`: this task did not fail
            error_message="",
            waiting_for=None,
            cancel_asked_at=now,
            completed_at=now,
            updated_at=now,
            retry_at=None,
        )
        return TaskMove(task, after, Event.CANCELLED, "cancelled before it was on the host")
    after = replace(task, waiting_for=WaitingFor.CANCEL_CONFIRMATION, cancel_asked_at=now, updated_at=now)
    return TaskMove(task, after, Event.NOTED, "cancel asked")


def expire(task: Task, now: datetime) -> TaskMove | None:
    """End a task whose time is over (docs/architecture.md «Time»); None while it is not."""
    if not task.is_open or now < task.closes_at:
        return None
    budget = int((task.deadline_at - task.accepted_at).total_seconds())
    if task.is_on_host:
        return fail(
            task,
            FailureCode.OUTCOME_UNKNOWN,
            f"the agent has not said how attempt {task.attempt} ended within its {budget} s and the time"
            " after it; the outcome is recorded when the agent returns",
            now,
        )
    if task.status is Status.IN_PROGRESS:
        return fail(
            task, FailureCode.TIMEOUT, f"its {budget} s were over before attempt {task.attempt + 1}", now
        )
    if task.behind is not None and task.waiting_for is not WaitingFor.AGENT_OFFLINE:
        return fail(task, FailureCode.TIMEOUT, f"the task before it did not end within {budget} s", now)
    return fail(
        task,
        FailureCode.AGENT_OFFLINE,
        f"agent '{task.agent_id}' was not reachable for {budget} s; nothing was sent",
        now,
    )
