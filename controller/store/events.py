"""The release log: what happened, one row each, written in the transaction that makes it true.

What is paired follows from the task's row, not from what reports claim: a phase starts with the dispatch or
with the report that enters it, and ends with the next report or with whatever else ends the attempt."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import func, insert, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.task import Event, Task, TaskMove
from releasehand.model import EventKind, EventOutcome, Phase, Status
from releasehand.shown import escape_controls
from shared.attempt import TERMINAL
from shared.frames import Move

from .columns import UtcDateTime
from .tables import EVENT, TASK
from .tasks import chunks

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
    Event.DISPATCHED: EventKind.DISPATCHED,
    Event.RETRIED: EventKind.RETRY_SCHEDULED,
    Event.SUCCEEDED: EventKind.ENDED,
    Event.FAILED: EventKind.ENDED,
    Event.CANCELLED: EventKind.ENDED,
}
_QUERY: Final = re.compile(r"(?i)(https?://[^\s?#\"'<>]*)\?[^\s\"'<>]*")


async def append(conn: AsyncConnection, events: Sequence[dict[str, Any]]) -> None:
    """Writes come one after the other (`engine.Database`), so ids grow in the order of commits: who reads on
    from an id misses nothing."""
    if events:
        rows = [_BLANK | event for event in events]
        for row in rows:
            row["message"] = presentable(row["message"], lines=row["event"] == EventKind.LOG_TAIL)
        await conn.execute(insert(EVENT), rows)


def presentable(text: str, *, lines: bool) -> str:
    """What a host said, safe to show: control characters and other tricks on terminals as escapes, URLs
    without their queries. With `lines`, line ends and tabs stay."""
    shown = _QUERY.sub(r"\1?…", text)
    return escape_controls(shown, keep="\n\t" if lines else "")


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


async def phases_since(conn: AsyncConnection, tasks: Iterable[int]) -> dict[int, datetime]:
    """Since when each task has been in the phase that it started last."""
    started = EVENT.c.event == EventKind.PHASE_STARTED
    same = (EVENT.c.operation == TASK.c.operation) & (EVENT.c.instance_id == TASK.c.instance_id)
    newest = (
        select(TASK.c.id, func.max(EVENT.c.at, type_=UtcDateTime).label("since"))
        .join(EVENT, same)
        .where(started)
    )
    found: dict[int, datetime] = {}
    for piece in chunks(sorted(set(tasks))):
        rows = await conn.execute(newest.where(TASK.c.id.in_(piece)).group_by(TASK.c.id))
        found |= {row.id: row.since for row in rows}
    return found


def loses_track(move: TaskMove, report: Move | None) -> bool:
    """Whether a phase ends here of which no report tells how and how long."""
    if not move.before.is_on_host:
        return False
    if report is None:
        return not move.after.is_open
    return report.left is not move.before.phase and not _is_receipt(move.before, report)


def _is_receipt(before: Task, report: Move) -> bool:
    """The host has taken the command: `queued`, which began with the dispatch, goes on."""
    return report.left is None and report.entered is before.phase is Phase.QUEUED


def of_move(
    move: TaskMove, report: Move | None, at: datetime, since: Mapping[int, datetime]
) -> list[dict[str, Any]]:
    """What a move adds to the log, in order: the phase that it ends, what the host logged, the phase that it
    enters, the change of state.

    `since` says when the phase began where `loses_track`."""
    before, after = move.before, move.after
    rows: list[dict[str, Any]] = []
    if loses_track(move, report):
        lost = {"phase": before.phase, "outcome": EventOutcome.UNKNOWN}
        duration = max(0.0, (at - since.get(after.id, at)).total_seconds())
        rows.append(of_task(before, EventKind.PHASE_ENDED, at, **lost, duration_s=duration))
    if report is not None:
        rows += _of_report(before, report, at)
    rows += _of_state(move, at)
    if move.event is Event.DISPATCHED:
        rows.append(of_task(after, EventKind.PHASE_STARTED, at, phase=after.phase))
    return rows


def _of_report(before: Task, report: Move, at: datetime) -> list[dict[str, Any]]:
    if _is_receipt(before, report):
        return []
    rows = []
    end = report.end
    if report.left is not None:
        if report.left is not before.phase:  # reports between are lost, with a journal or a database
            rows.append(of_task(before, EventKind.PHASE_STARTED, at, phase=report.left))
        ended = {
            "phase": report.left,
            "outcome": report.outcome,
            "duration_s": report.duration_s,
            "code": str(end.code or "") if end else "",
            "message": end.message if end else "",
        }
        rows.append(of_task(before, EventKind.PHASE_ENDED, at, **ended))
    if end is not None and end.log_tail:
        rows.append(of_task(before, EventKind.LOG_TAIL, at, phase=report.left or "", message=end.log_tail))
    if report.entered not in TERMINAL:
        rows.append(of_task(before, EventKind.PHASE_STARTED, at, phase=report.entered))
    return rows


def _of_state(move: TaskMove, at: datetime) -> list[dict[str, Any]]:
    """Attempts started, retries, ends, cancels asked, and who had to give way."""
    rows = []
    before, task = move.before, move.after
    if task.superseded_by is not None and before.superseded_by is None:
        rows.append(of_task(task, EventKind.SUPERSEDED, at))
    if name := _NAMES.get(move.event):
        outcome = "" if task.status is Status.IN_PROGRESS else EventOutcome(task.status)
        duration = None if task.is_open else (at - task.accepted_at).total_seconds()
        said = {"outcome": outcome, "code": str(task.error_code or ""), "message": move.message}
        rows.append(of_task(task, name, at, duration_s=duration, **said))
    elif task.cancel_asked_at is not None and before.cancel_asked_at is None:
        rows.append(of_task(task, EventKind.CANCEL_ASKED, at))
    return rows


def of_truth(task: Task, report: Move, at: datetime, message: str) -> list[dict[str, Any]]:
    """How an attempt ended that was given up as unknown: its phases are closed already."""
    learned = {Phase.DONE: EventOutcome.COMPLETED, Phase.CANCELLED: EventOutcome.CANCELLED}
    end = report.end
    said = {
        "phase": report.entered,
        "outcome": learned.get(report.entered, EventOutcome.FAILED),
        "code": str(end.code or "") if end else "",
        "message": message,
    }
    rows = [of_task(task, EventKind.OUTCOME_LEARNED, at, **said)]
    if end is not None and end.log_tail:
        rows.append(of_task(task, EventKind.LOG_TAIL, at, phase=report.left or "", message=end.log_tail))
    return rows
