"""What a report changes: the pure half of the recorder."""

from dataclasses import dataclass, replace
from datetime import datetime

from releasehand.model import FailureCode, Phase, Status, WaitingFor
from shared.attempt import PAST_NO_RETURN, TERMINAL, TRANSITIONS
from shared.frames import AttemptEnd, Move

from .retry import retry_at
from .task import Event, Task, TaskMove, advance, closing_time


@dataclass(frozen=True, slots=True)
class Applied:
    """The report moves its task. `end` is there when the attempt ended."""

    move: TaskMove
    end: AttemptEnd | None


@dataclass(frozen=True, slots=True)
class Late:
    """The end of an attempt that was given up as unknown: the truth is recorded beside the task's status."""

    move: TaskMove
    end: AttemptEnd
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Rejected:
    """The report changes nothing; it is acknowledged, stored as rejected and counted."""

    reason: str


Effect = Applied | Late | Rejected


def apply(task: Task | None, report: Move, *, agent_id: str, now: datetime, chance: float) -> Effect:
    """Decide what `report` of `agent_id` does to `task`, the row it names (None: there is none)."""
    if task is None:
        return Rejected(f"no task {report.task}")
    if task.agent_id != agent_id or task.instance_id != report.instance_id:
        return Rejected(f"task {task.id} is not this agent's")
    if (report.generation, report.attempt) != (task.generation, task.attempt):
        return Rejected(
            f"generation {report.generation} attempt {report.attempt} is not the current"
            f" {task.generation}.{task.attempt}"
        )
    if (report.entered in TERMINAL) != (report.end is not None):
        return Rejected("an end must come with its result, and only an end")
    if report.left is not None and TRANSITIONS.get((report.left, report.outcome)) is not report.entered:
        return Rejected(f"no attempt goes from {report.left} by {report.outcome} to {report.entered}")
    if (
        task.status is Status.FAILED
        and task.error_code is FailureCode.OUTCOME_UNKNOWN
        and report.end is not None
        and task.phase not in TERMINAL  # its end was told already
    ):
        return _late(task, report, report.end, now)
    if task.status is not Status.IN_PROGRESS or task.waiting_for is WaitingFor.RETRY_BACKOFF:
        return Rejected(f"task {task.id} is {task.status} and expects no report")
    if report.end is None:
        return Applied(_advanced(task, report.entered, now), None)
    return Applied(_ended(task, report, report.end, now, chance), report.end)


def _advanced(task: Task, phase: Phase, now: datetime) -> TaskMove:
    waiting = WaitingFor.CANCEL_CONFIRMATION if task.cancel_asked_at else WaitingFor.AGENT_WORKING
    closes_at = closing_time(task, phase) if phase in PAST_NO_RETURN else task.closes_at
    after = replace(task, phase=phase, waiting_for=waiting, updated_at=now, closes_at=closes_at)
    return TaskMove(task, after, Event.ADVANCED)


def _ended(task: Task, report: Move, end: AttemptEnd, now: datetime, chance: float) -> TaskMove:
    ended = replace(task, phase=report.entered, waiting_for=None, updated_at=now, retry_at=None)
    if report.entered is Phase.DONE:
        after = replace(
            ended,
            status=advance(task.status, Event.SUCCEEDED),
            result=end.result,
            completed_at=now,
            error_code=None,
            error_message="",
        )
        return TaskMove(task, after, Event.SUCCEEDED, end.message)
    if report.entered is Phase.CANCELLED:
        after = replace(ended, status=advance(task.status, Event.CANCELLED), completed_at=now)
        return TaskMove(task, after, Event.CANCELLED, end.message)
    code = end.code or FailureCode.HOST_ERROR
    failed = replace(ended, error_code=code, error_message=end.message or str(code))
    if task.cancel_asked_at is not None and report.entered is Phase.FAILED:
        # It failed before it touched the host while a cancel was on its way: the caller got what it asked
        # for.
        after = replace(failed, status=advance(task.status, Event.CANCELLED), completed_at=now)
        return TaskMove(task, after, Event.CANCELLED, end.message)
    again_at = retry_at(
        code=code,
        last_code=task.last_code,
        attempt=task.attempt,
        retries_left=task.retries_left,
        now=now,
        deadline_at=task.deadline_at,
        chance=chance,
    )
    if again_at is None or report.entered is not Phase.FAILED:
        after = replace(failed, status=advance(task.status, Event.FAILED), completed_at=now)
        return TaskMove(task, after, Event.FAILED, end.message)
    after = replace(
        failed,
        status=advance(task.status, Event.RETRIED),
        waiting_for=WaitingFor.RETRY_BACKOFF,
        retries_left=task.retries_left - 1,
        last_code=code,
        retry_at=again_at,
        closes_at=task.deadline_at,
    )
    return TaskMove(task, after, Event.RETRIED, end.message)


def _late(task: Task, report: Move, end: AttemptEnd, now: datetime) -> Late:
    succeeded = report.entered is Phase.DONE
    truth = f"it ended {report.entered}" + (f" ({end.code})" if end.code else "")
    live = end.active.version or "nothing"
    message = f"outcome was unknown at the deadline; the agent has since said: {truth}; {live} is live"
    after = replace(task, phase=report.entered, error_message=message, updated_at=now)
    return Late(TaskMove(task, after, Event.NOTED, message), end, succeeded)
