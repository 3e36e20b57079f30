"""Operations: their status derived from their tasks, their cancel, and what a caller sees of them."""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from pydantic import TypeAdapter
from sqlalchemy import bindparam, func, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import InstancePage, PastDeployment
from controller.core.figures import find_pace_ranks, tell_pace
from controller.core.operation import derive_status, progress
from controller.core.refusals import UnknownOperationError
from releasehand.model import (
    ENDED,
    DeployStatus,
    EndedAfter,
    EventKind,
    OperationKind,
    Progress,
    RollbackStatus,
    Status,
    TaskStatus,
)

from . import events, tasks
from .tables import INSTANCE, OPERATION, TASK

OperationName = tuple[OperationKind, str]

_TASK_STATUSES: Final = TypeAdapter(list[TaskStatus])
_NULL: Final = frozenset({"started_at", "completed_at"})
"""Told as null; what else is null is told as the model's blank."""

_CURRENT: Final = select(
    OPERATION.c.id,
    OPERATION.c.kind,
    OPERATION.c.operation_id,
    OPERATION.c.status,
    OPERATION.c.accepted_at,
    OPERATION.c.ended_at,
)
_SETTLE: Final = (
    update(OPERATION)
    .where(OPERATION.c.id == bindparam("key"))
    .values(status=bindparam("to_status"), ended_at=bindparam("to_ended_at"), updated_at=bindparam("now"))
)


async def find(conn: AsyncConnection, kind: OperationKind, operation_id: str) -> Row[*tuple[Any, ...]]:
    """The operation's row. Raises UnknownOperationError."""
    wanted = (OPERATION.c.kind == kind, OPERATION.c.operation_id == operation_id)
    row = (await conn.execute(select(OPERATION).where(*wanted))).one_or_none()
    if row is None:
        raise UnknownOperationError(kind, operation_id)
    return row


async def settle(conn: AsyncConnection, operations: Iterable[int], now: datetime) -> list[OperationName]:
    """Bring the status of operations whose tasks moved in line with their tasks; the names of all of them.

    Call it in the transaction of the moves, after them."""
    names: list[OperationName] = []
    settled: list[dict[str, Any]] = []
    log: list[dict[str, Any]] = []
    for piece in tasks.chunks(sorted(set(operations))):
        counts = await _counts(conn, piece)
        for row in await conn.execute(_CURRENT.where(OPERATION.c.id.in_(piece))):
            status = derive_status(counts.get(row.id, {}))
            has_ended_now = status in ENDED and row.status not in ENDED
            if has_ended_now:
                took_s = (now - row.accepted_at).total_seconds()
                log.append(
                    events.of_operation(row.id, EventKind.ENDED, now, outcome=status, duration_s=took_s)
                )
            elif row.status == Status.PENDING and status is Status.IN_PROGRESS:
                log.append(events.of_operation(row.id, EventKind.STARTED, now))
            ended_at = now if has_ended_now else row.ended_at
            settled.append({"key": row.id, "to_status": status, "to_ended_at": ended_at, "now": now})
            names.append((OperationKind(row.kind), row.operation_id))
    if settled:
        await conn.execute(_SETTLE, settled)
    await events.append(conn, log)
    return names


async def _counts(conn: AsyncConnection, operations: Iterable[int]) -> dict[int, dict[Status, int]]:
    rows = await conn.execute(
        select(TASK.c.operation, TASK.c.status, func.count())
        .where(TASK.c.operation.in_(operations))
        .group_by(TASK.c.operation, TASK.c.status)
    )
    counts: dict[int, dict[Status, int]] = {}
    for operation, status, count in rows:
        counts.setdefault(operation, {})[Status(status)] = count
    return counts


async def read_deployment(conn: AsyncConnection, deploy_id: str, page: InstancePage) -> DeployStatus:
    """Raises UnknownOperationError."""
    row = await find(conn, OperationKind.DEPLOYMENT, deploy_id)
    return DeployStatus(
        deploy_id=row.operation_id,
        service=row.service,
        version=row.version,
        status=Status(row.status),
        progress=await _progress(conn, row.id),
        instances=await _task_statuses(conn, row.id, page),
        started_at=row.accepted_at,
        updated_at=row.updated_at,
        completed_at=row.ended_at,
        cancelled_at=row.cancelled_at,
        ended_after=await _pace(conn, row),
    )


async def read_rollback(conn: AsyncConnection, rollback_id: str, page: InstancePage) -> RollbackStatus:
    """Raises UnknownOperationError."""
    row = await find(conn, OperationKind.ROLLBACK, rollback_id)
    return RollbackStatus(
        rollback_id=row.operation_id,
        service=row.service,
        target_version=row.version,
        rollback_type=row.rollback_type,
        status=Status(row.status),
        progress=await _progress(conn, row.id),
        instances=await _task_statuses(conn, row.id, page),
        started_at=row.accepted_at,
        completed_at=row.ended_at,
        updated_at=row.updated_at,
        cancelled_at=row.cancelled_at,
        ended_after=await _pace(conn, row),
    )


async def read_past(conn: AsyncConnection, deploy_id: str) -> PastDeployment:
    """A deployment with the instances that failed, in the order of the call. Raises UnknownOperationError."""
    row = await find(conn, OperationKind.DEPLOYMENT, deploy_id)
    columns = (TASK.c.instance_id, TASK.c.package_url, TASK.c.package_sha256)
    of_failed = (TASK.c.operation == row.id, TASK.c.status == Status.FAILED)
    failed = (await conn.execute(select(*columns).where(*of_failed).order_by(TASK.c.id))).all()
    return PastDeployment(
        deploy_id=deploy_id,
        status=Status(row.status),
        service=row.service,
        version=row.version,
        package_url=failed[0].package_url if failed else "",
        package_sha256=failed[0].package_sha256 if failed else "",
        timeout_s=row.fingerprint["timeout"],
        retries=row.fingerprint["retry_count"],
        failed=[task.instance_id for task in failed],
    )


async def _progress(conn: AsyncConnection, operation: int) -> Progress:
    return progress((await _counts(conn, [operation])).get(operation, {}))


async def _pace(conn: AsyncConnection, operation: Row[*tuple[Any, ...]]) -> EndedAfter:
    ranks = find_pace_ranks(operation.instance_count)
    ends = (
        select(TASK.c.completed_at)
        .where(TASK.c.operation == operation.id, TASK.c.completed_at.is_not(None))
        .order_by(TASK.c.completed_at)
        .limit(1)
    )
    reached = select(*(ends.offset(rank - 1).scalar_subquery() for rank in ranks))
    return tell_pace(operation.accepted_at, *(await conn.execute(reached)).one())


async def _task_statuses(conn: AsyncConnection, operation: int, page: InstancePage) -> list[TaskStatus]:
    """`version` is what the host has live now, whatever this operation did."""
    statement = (
        select(
            TASK.c.instance_id,
            TASK.c.status,
            INSTANCE.c.active_version.label("version"),
            INSTANCE.c.active_version.label("current_version"),
            TASK.c.target_version,
            TASK.c.started_at,
            TASK.c.completed_at,
            TASK.c.updated_at,
            TASK.c.error_message,
            *(TASK.c[name] for name in ("error_code", "phase", "attempt", "waiting_for", "result")),
            TASK.c.bytes_done,
            TASK.c.bytes_total,
        )
        .join(INSTANCE, INSTANCE.c.instance_id == TASK.c.instance_id)
        .where(TASK.c.operation == operation)
        .order_by(TASK.c.id)
        .offset(page.offset)
    )
    if page.status is not None:
        statement = statement.where(TASK.c.status == page.status)
    if page.limit is not None:
        statement = statement.limit(page.limit)
    elif page.offset:
        statement = statement.limit(2**31)  # SQLite takes no OFFSET without a LIMIT
    result = await conn.execute(statement)
    names = list(result.keys())
    return _TASK_STATUSES.validate_python([_without_blanks(names, row) for row in result])


def _without_blanks(names: list[str], row: Iterable[Any]) -> dict[str, Any]:
    """Ten thousand rows may come: `mappings()` and blanks that match no enumeration cost most of the time."""
    return {name: value for name, value in zip(names, row, strict=True) if value is not None or name in _NULL}
