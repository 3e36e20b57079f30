"""Tasks: read as values, moved by compare-and-set."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Column, ColumnElement, Select, bindparam, case, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.task import Task, TaskMove
from releasehand.model import FailureCode, OperationKind, Phase, Status, TaskResult, WaitingFor

from .engine import StaleMoveError
from .tables import TASK

MAX_ID: Final = 2**63 - 1
"""No row has a greater number. A peer may name one, and the driver would raise."""
CHUNK: Final = 5_000
"""Names in one IN list: under both databases' limit of about 32,000 parameters."""

IS_OPEN: Final[ColumnElement[bool]] = TASK.c.status.in_(
    [literal_column(f"'{status}'") for status in (Status.PENDING, Status.IN_PROGRESS)]
)
"""In the very words of the partial indexes: with bound values the database would not see that they apply."""
_COLUMNS: Final = [TASK.c[field.name] for field in fields(Task)]
_ENUMS: Final[dict[str, Any]] = {
    "kind": OperationKind,
    "status": Status,
    "phase": Phase,
    "waiting_for": WaitingFor,
    "error_code": FailureCode,
    "result": TaskResult,
    "last_code": FailureCode,
}
_MOVABLE: Final = (
    "status",
    "attempt",
    "phase",
    "waiting_for",
    "error_code",
    "error_message",
    "result",
    "retries_left",
    "last_code",
    "started_at",
    "completed_at",
    "updated_at",
    "closes_at",
    "retry_at",
    "cancel_asked_at",
    "superseded_by",
    "behind",
)
_COMPARED: Final = (
    "status",
    "generation",
    "attempt",
    # what changes within an attempt: a move writes the whole row, and would undo what came between
    "phase",
    "waiting_for",
    "cancel_asked_at",
    "superseded_by",
)


def _kept_within_attempt(column: Column[int]) -> ColumnElement[int]:
    """A new attempt counts its bytes from nothing."""
    return case((TASK.c.attempt == bindparam("to_attempt"), column), else_=0)


_MOVE: Final = (
    update(TASK)
    .where(
        TASK.c.id == bindparam("was_id"),
        *(TASK.c[name].is_not_distinct_from(bindparam(f"was_{name}")) for name in _COMPARED),
    )
    .values({name: bindparam(f"to_{name}") for name in _MOVABLE})
    .values({name: _kept_within_attempt(TASK.c[name]) for name in ("bytes_done", "bytes_total")})
)


def chunks(names: Sequence[Any]) -> Iterable[Sequence[Any]]:
    """`names` in pieces that fit into one statement."""
    for start in range(0, len(names), CHUNK):
        yield names[start : start + CHUNK]


def select_tasks() -> Select[Any]:
    """Every column of a Task, row by row; add the conditions."""
    return select(*_COLUMNS)


def to_task(row: Mapping[Any, Any]) -> Task:
    values = dict(row)
    for name, enum in _ENUMS.items():
        if values[name] is not None:
            values[name] = enum(values[name])
    return Task(**values)


async def fetch(conn: AsyncConnection, statement: Select[Any]) -> list[Task]:
    return [to_task(row) for row in (await conn.execute(statement)).mappings()]


async def load(conn: AsyncConnection, ids: Iterable[int]) -> dict[int, Task]:
    """Tasks by id, locked for the transaction where the database locks rows; unknown ids are left out."""
    found: dict[int, Task] = {}
    for piece in chunks(sorted(one for one in set(ids) if one <= MAX_ID)):
        for task in await fetch(conn, select_tasks().where(TASK.c.id.in_(piece)).with_for_update()):
            found[task.id] = task
    return found


async def move(conn: AsyncConnection, moves: Sequence[TaskMove]) -> None:
    """Store every move, or raise StaleMoveError if a row is no longer what the move started from."""
    if not moves:
        return
    counted = conn.dialect.supports_sane_multi_rowcount  # asyncpg counts no rows over a batch
    if not counted:
        found = await load(conn, [move.before.id for move in moves])
        moved = sum(_is_as_read(found.get(move.before.id), move.before) for move in moves)
        _require_all(moved, len(moves))
    result = await conn.execute(_MOVE, [_parameters(move) for move in moves])
    if counted:
        _require_all(result.rowcount, len(moves))


def _require_all(moved: int, asked: int) -> None:
    if moved != asked:
        raise StaleMoveError(f"{asked - moved} of {asked} tasks had moved")


def _is_as_read(found: Task | None, before: Task) -> bool:
    """Of a row that is locked: as it is now, it stays until the move."""
    return found is not None and all(getattr(found, name) == getattr(before, name) for name in _COMPARED)


def _parameters(move: TaskMove) -> dict[str, Any]:
    before, after = move.before, move.after
    parameters: dict[str, Any] = {f"to_{name}": getattr(after, name) for name in _MOVABLE}
    parameters["was_id"] = before.id
    parameters |= {f"was_{name}": getattr(before, name) for name in _COMPARED}
    return parameters


async def set_bytes(conn: AsyncConnection, progress: Sequence[tuple[int, int, int, int]]) -> None:
    """Byte progress of (task, attempt, done, total); of an attempt that is over it is dropped."""
    if not progress:
        return
    statement = (
        update(TASK)
        .where(TASK.c.id == bindparam("was_id"), TASK.c.attempt == bindparam("was_attempt"), IS_OPEN)
        .values(bytes_done=bindparam("to_done"), bytes_total=bindparam("to_total"))
    )
    rows = [
        {"was_id": task, "was_attempt": attempt, "to_done": done, "to_total": total}
        for task, attempt, done, total in progress
    ]
    await conn.execute(statement, rows)


def due_to_close(now: datetime, limit: int) -> Select[Any]:
    """Open tasks past `closes_at`, the longest overdue first."""
    return select_tasks().where(IS_OPEN, TASK.c.closes_at <= now).order_by(TASK.c.closes_at).limit(limit)
