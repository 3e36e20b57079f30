"""What to do next for a task whose agent may be connected here: the one place that decides what is sent."""

from dataclasses import dataclass, replace
from datetime import datetime

from releasehand.model import Status, WaitingFor

from .task import Event, Task, TaskMove, dispatch


@dataclass(frozen=True, slots=True)
class Start:
    """Commit `move`, then send `execute` with its attempt."""

    move: TaskMove


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The attempt was sent before; send `execute` from the row again. The agent tells copies apart.

    `move` says that the task no longer waits for its agent to come back, if it did."""

    task: Task
    move: TaskMove | None = None


@dataclass(frozen=True, slots=True)
class SendCancel:
    task: Task


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to send now. `move` says what the task waits for, if that changed."""

    move: TaskMove | None


Action = Start | SendAgain | SendCancel | Wait


@dataclass(frozen=True, slots=True)
class Standing:
    """A task, and what its plan depends on in the database."""

    task: Task
    predecessor_open: bool
    outcome_unknown: bool
    sealed_query: str = ""  # of its package's URL; "" if there is none, or no more


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a task's plan depends on beside the task."""

    connected: bool  # its agent is connected to this controller
    predecessor_open: bool  # the task that it superseded has not ended
    outcome_unknown: bool  # the host has not spoken since a task of this instance ended unknown


def plan(task: Task, around: Surroundings, now: datetime) -> Action:
    """Decide for an open task. An ended one waits for ever."""
    if not task.is_open:
        return Wait(None)
    if task.is_on_host:
        return _plan_on_host(task, around, now)
    if task.retry_at is not None and now < task.retry_at:
        return _wait(task, WaitingFor.RETRY_BACKOFF, now)
    if around.predecessor_open:
        return _hold(task, WaitingFor.BEHIND_OTHER_TASK, now)
    if not around.connected or (around.outcome_unknown and not task.force):
        return _hold(task, WaitingFor.AGENT_OFFLINE, now)
    if now >= task.deadline_at:
        return Wait(None)  # the sweeper ends it
    return Start(dispatch(task, now))


def _plan_on_host(task: Task, around: Surroundings, now: datetime) -> Action:
    cancelling = task.cancel_asked_at is not None
    if not around.connected:
        return _wait(task, WaitingFor.CANCEL_CONFIRMATION if cancelling else WaitingFor.AGENT_OFFLINE, now)
    if cancelling:
        return SendCancel(task)
    move = _note(task, WaitingFor.AGENT_WORKING, now)
    return SendAgain(move.after if move else task, move)


def _hold(task: Task, reason: WaitingFor, now: datetime) -> Wait:
    """Between two attempts a task stays in backoff, whatever holds it: other words mean that it is on the
    host."""
    return _wait(task, reason if task.status is Status.PENDING else WaitingFor.RETRY_BACKOFF, now)


def _wait(task: Task, waiting_for: WaitingFor, now: datetime) -> Wait:
    return Wait(_note(task, waiting_for, now))


def _note(task: Task, waiting_for: WaitingFor, now: datetime) -> TaskMove | None:
    if task.waiting_for is waiting_for:
        return None
    after = replace(task, waiting_for=waiting_for, updated_at=now)
    return TaskMove(task, after, Event.NOTED)
