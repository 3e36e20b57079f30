"""The release log: what happened, one row each, written in the transaction that makes it true."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.task import Event, Task, TaskMove
from releasehand.model import Status
from shared.attempt import TERMINAL
from shared.frames import Move

from .columns import UtcDateTime
from .tables import EVENT, TASK

_BLANK: Final[dict[str, Any]] = {
    "operation": None,
    "task": None,
    "instance_id": "",
    "agent_id": "",
    "generation": 0,
    "attempt": 0,
    "phase": "",
    "outcome": "",
    "duration_s": None,
    "code": "",
    "message": "",
}
_NAMES: Final = {
    Event.DISPATCHED: "dispatched",
    Event.RETRIED: "retry_scheduled",
    Event.SUCCEEDED: "ended",
    Event.FAILED: "ended",
    Event.CANCELLED: "ended",
}


async def append(conn: AsyncConnection, events: Sequence[dict[str, Any]]) -> None:
    if events:
        await conn.execute(insert(EVENT), [_BLANK | event for event in events])


async def append_of_operation(conn: AsyncConnection, operation: int, event: str, at: datetime) -> None:
    """The same event for each task of an operation, written by the database alone: there may be thousands."""
    said = {
        "at": literal(at, UtcDateTime),
        "event": literal(event),
        "operation": TASK.c.operation,
        "task": TASK.c.id,
        "instance_id": TASK.c.instance_id,
        "agent_id": TASK.c.agent_id,
        "generation": TASK.c.generation,
        "attempt": TASK.c.attempt,
    }
    values: dict[str, Any] = {
        name: literal(blank, EVENT.c[name].type) for name, blank in _BLANK.items()
    } | said
    chosen = select(*values.values()).where(TASK.c.operation == operation).order_by(TASK.c.id)
    await conn.execute(insert(EVENT).from_select(list(values), chosen))


def of_task(task: Task, event: str, at: datetime, **more: Any) -> dict[str, Any]:
    """An event of one task, with its ids."""
    return {
        "at": at,
        "event": event,
        "operation": task.operation,
        "task": task.id,
        "instance_id": task.instance_id,
        "agent_id": task.agent_id,
        "generation": task.generation,
        "attempt": task.attempt,
    } | more


def of_operation(operation: int, event: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"at": at, "event": event, "operation": operation} | more


def of_agent(agent_id: str, event: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {"at": at, "event": event, "agent_id": agent_id} | more


def of_moves(moves: Iterable[TaskMove], at: datetime) -> list[dict[str, Any]]:
    """The state changes among `moves`: attempts started, retries, ends, cancels asked. Phases come with
    reports."""
    events = []
    for move in moves:
        task = move.after
        if name := _NAMES.get(move.event):
            outcome = "" if task.status is Status.IN_PROGRESS else str(task.status)
            code = str(task.error_code or "")
            duration = (at - task.accepted_at).total_seconds() if not task.is_open else None
            events.append(
                of_task(task, name, at, outcome=outcome, code=code, message=move.message, duration_s=duration)
            )
        elif task.cancel_asked_at is not None and move.before.cancel_asked_at is None:
            events.append(of_task(task, "cancel_asked", at))
    return events


def of_report(task: Task, report: Move, at: datetime) -> list[dict[str, Any]]:
    """The end of the phase that was left, what was logged on the host if the attempt ended with it, and the
    start of the phase entered."""
    events = []
    if report.left is not None:
        code = str(report.end.code or "") if report.end else ""
        message = report.end.message if report.end else ""
        ended = {"outcome": report.outcome, "duration_s": report.duration_s, "code": code, "message": message}
        events.append(of_task(task, "phase_ended", at, phase=report.left, **ended))
    if report.end is not None and report.end.log_tail:
        events.append(of_task(task, "log_tail", at, phase=report.left or "", message=report.end.log_tail))
    if report.entered not in TERMINAL:
        events.append(of_task(task, "phase_started", at, phase=report.entered))
    return events
