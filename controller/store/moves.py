"""The one way in which tasks change: the rows, the log, the history, the instances and the operations
together."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import bindparam, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lineage import Release, is_same
from controller.core.task import Task, TaskMove
from releasehand.model import FailureCode, HistoryAction, HistoryStatus, OperationKind, Phase, Status
from shared.frames import Move

from . import events, history, operations, sources, tasks
from .operations import OperationName
from .tables import INSTANCE

_HISTORY_STATUS: Final = {
    Status.COMPLETED: HistoryStatus.SUCCESS,
    Status.CANCELLED: HistoryStatus.CANCELLED,
    Status.FAILED: HistoryStatus.FAILED,
}
_NOTHING: Final = Release("", "")


@dataclass(frozen=True, slots=True)
class Change:
    """A move, and the report that made it if one did. `late`: the report tells the truth about a task that
    was given up as unknown."""

    move: TaskMove
    report: Move | None = None
    late: bool = False


@dataclass(slots=True)
class Changed:
    """What others have to be told once the transaction is committed."""

    operations: list[OperationName] = field(default_factory=list)
    woken: list[int] = field(default_factory=list)
    dropped: list[Task] = field(default_factory=list)  # nobody waits for their attempts, which are on hosts

    def add(self, other: "Changed") -> None:
        self.operations += other.operations
        self.woken += other.woken
        self.dropped += other.dropped


async def apply(conn: AsyncConnection, changes: Sequence[Change], now: datetime) -> Changed:
    """Store `changes` and all that follows from them, in the caller's transaction.

    Several changes of one task must be in order, each starting where the one before ended. Raises
    StaleMoveError when somebody else moved one of the tasks: the caller's transaction is then undone, and it
    looks again."""
    if not changes:
        return Changed()
    await tasks.move(conn, _merged(changes))
    await events.append(conn, await _events(conn, changes, now))
    await history.append(conn, await _history(conn, changes, now))
    await _update_instances(conn, changes, now)
    await sources.remember(conn, _deployed(changes), now)
    names = await operations.settle(conn, {change.move.after.operation for change in changes}, now)
    woken = [t.superseded_by for t in map(_after, changes) if not t.is_open and t.superseded_by]
    return Changed(names, woken)


def _after(change: Change) -> Task:
    return change.move.after


def _merged(changes: Iterable[Change]) -> list[TaskMove]:
    """One move for each task: from where the row is to where the last change leads."""
    merged: dict[int, TaskMove] = {}
    for change in changes:
        task = change.move.after.id
        first = merged.get(task)
        merged[task] = TaskMove(first.before, change.move.after, change.move.event) if first else change.move
    return list(merged.values())


async def _events(conn: AsyncConnection, changes: Sequence[Change], now: datetime) -> list[dict[str, Any]]:
    lost = [c.move.after.id for c in changes if not c.late and events.loses_track(c.move, c.report)]
    since = await events.phases_since(conn, lost) if lost else {}
    rows: list[dict[str, Any]] = []
    for change in changes:
        if change.late and change.report is not None:
            rows += events.of_truth(change.move.after, change.report, now, change.move.message)
        else:
            rows += events.of_move(change.move, change.report, now, since)
    return rows


async def _history(conn: AsyncConnection, changes: Sequence[Change], now: datetime) -> list[dict[str, Any]]:
    """One entry for each ended task that was dispatched, one where the host went back on its own, and one
    where it has something else live than the history says."""
    doubtful = [
        c.move.after.instance_id
        for c in changes
        if c.report is not None and c.report.end is not None
        if c.report.entered not in {Phase.DONE, Phase.REVERTED}
    ]
    live = await history.read_live(conn, doubtful) if doubtful else {}
    entries = []
    for change in changes:
        task, end = change.move.after, change.report.end if change.report else None
        ended_now = change.move.before.is_open and not task.is_open
        if task.attempt and (ended_now or change.late):
            entries.append(history.of_task(task, _status(change), end.sha256 if end else "", now))
        if end is None or change.report is None:
            continue
        name, found = task.instance_id, Release(end.active.version, end.active.sha256)
        change_of = (name, task.service, found.version, found.sha256)
        if change.report.entered is Phase.REVERTED:
            entries.append(history.of_change(*change_of, HistoryAction.REVERT, now, task.operation_id))
        elif change.report.entered is not Phase.DONE and not is_same(found, live.get(name, _NOTHING)):
            entries.append(history.of_change(*change_of, HistoryAction.DRIFT, now))
        live[name] = found
    return entries


def _status(change: Change) -> HistoryStatus:
    task = change.move.after
    if change.late and change.report is not None:
        done, gone = change.report.entered is Phase.DONE, change.report.entered is Phase.CANCELLED
        return HistoryStatus.SUCCESS if done else HistoryStatus.CANCELLED if gone else HistoryStatus.FAILED
    if task.error_code is FailureCode.OUTCOME_UNKNOWN:
        return HistoryStatus.UNKNOWN
    return _HISTORY_STATUS[task.status]


async def _update_instances(conn: AsyncConnection, changes: Iterable[Change], now: datetime) -> None:
    spoken = {
        c.move.after.instance_id: c.report
        for c in changes
        if c.report is not None and c.report.end is not None
    }
    unknown = {
        c.move.after.instance_id: c.move.after.id
        for c in changes
        if c.move.after.error_code is FailureCode.OUTCOME_UNKNOWN and c.report is None
    }
    if spoken:
        statement = (
            update(INSTANCE)
            .where(INSTANCE.c.instance_id == bindparam("name"))
            .values({column: bindparam(f"to_{column}") for column in _SPOKEN})
        )
        await conn.execute(statement, [_spoken(name, report, now) for name, report in spoken.items()])
    if unknown:
        held = update(INSTANCE).where(INSTANCE.c.instance_id == bindparam("name"))
        rows = [{"name": name, "task": task} for name, task in unknown.items()]
        await conn.execute(held.values(unknown_task=bindparam("task")), rows)


_SPOKEN: Final = (
    "active_release",
    "active_version",
    "active_sha256",
    "expected_version",
    "expected_sha256",
    "releases",
    "state",
    "reason",
    "broken",
    "unknown_task",
    "updated_at",
)


def _spoken(name: str, report: Move, now: datetime) -> dict[str, Any]:
    """After an end, what the host has is what is expected of it."""
    end = report.end
    assert end is not None
    return {
        "name": name,
        "to_active_release": end.active.release,
        "to_active_version": end.active.version,
        "to_active_sha256": end.active.sha256,
        "to_expected_version": end.active.version,
        "to_expected_sha256": end.active.sha256,
        "to_releases": [kept.model_dump(mode="json") for kept in end.releases],
        "to_state": end.state,
        "to_reason": end.reason,
        "to_broken": end.broken,
        "to_unknown_task": None,
        "to_updated_at": now,
    }


def _deployed(changes: Iterable[Change]) -> list[tuple[Task, str]]:
    """The deployments that a host has just made true, and the digest of what it installed."""
    return [
        (change.move.after, change.report.end.sha256)
        for change in changes
        if change.report is not None and change.report.end is not None
        if change.report.entered is Phase.DONE and change.move.after.kind is OperationKind.DEPLOYMENT
    ]
