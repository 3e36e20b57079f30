"""Operations: their status derived from their tasks, their cancel, and what a caller sees of them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, bindparam, func, select, update
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import InstancePage, PastDeployment
from controller.core.figures import find_pace_ranks, tell_pace
from controller.core.operation import derive_status, progress
from controller.core.refusals import UnknownOperationError
from controller.core.written import Written
from releasehand.model import (
    ENDED,
    DeployStatus,
    EndedAfter,
    EventKind,
    OperationKind,
    Progress,
    RollbackStatus,
    Status,
)

from . import events, tasks
from .json_rows import BLANK, write_array, write_object, write_time
from .tables import INSTANCE, OPERATION, TASK

OperationName = tuple[OperationKind, str]

TASK_STATUS: Final[Mapping[str, ColumnElement[Any]]] = {
    "instance_id": TASK.c.instance_id,
    "status": TASK.c.status,
    "version": INSTANCE.c.active_version,
    "current_version": INSTANCE.c.active_version,
    "target_version": TASK.c.target_version,
    "started_at": write_time(TASK.c.started_at),
    "completed_at": write_time(TASK.c.completed_at),
    "updated_at": write_time(TASK.c.updated_at),
    "error_message": TASK.c.error_message,
    "error_code": func.coalesce(TASK.c.error_code, BLANK),
    "phase": func.coalesce(TASK.c.phase, BLANK),
    "attempt": TASK.c.attempt,
    "waiting_for": func.coalesce(TASK.c.waiting_for, BLANK),
    "result": func.coalesce(TASK.c.result, BLANK),
    "bytes_done": TASK.c.bytes_done,
    "bytes_total": TASK.c.bytes_total,
}
"""The fields of a TaskStatus. `version` is what the host has live now, whatever the operation did."""

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


async def find_service(conn: AsyncConnection, kind: OperationKind, operation_id: str) -> str | None:
    """The service that an operation is of; None if there is no such operation."""
    wanted = (OPERATION.c.kind == kind, OPERATION.c.operation_id == operation_id)
    return (await conn.execute(select(OPERATION.c.service).where(*wanted))).scalar_one_or_none()


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


async def read_deployment(conn: AsyncConnection, deploy_id: str, page: InstancePage) -> Written[DeployStatus]:
    """Raises UnknownOperationError."""
    row = await find(conn, OperationKind.DEPLOYMENT, deploy_id)
    answer = DeployStatus(
        deploy_id=row.operation_id,
        service=row.service,
        version=row.version,
        status=Status(row.status),
        progress=await _progress(conn, row.id),
        instances=[],
        started_at=row.accepted_at,
        updated_at=row.updated_at,
        completed_at=row.ended_at,
        cancelled_at=row.cancelled_at,
        ended_after=await _pace(conn, row),
    )
    return Written(answer, await _write_tasks(conn, row.id, page))


async def read_rollback(
    conn: AsyncConnection, rollback_id: str, page: InstancePage
) -> Written[RollbackStatus]:
    """Raises UnknownOperationError."""
    row = await find(conn, OperationKind.ROLLBACK, rollback_id)
    answer = RollbackStatus(
        rollback_id=row.operation_id,
        service=row.service,
        target_version=row.version,
        rollback_type=row.rollback_type,
        status=Status(row.status),
        progress=await _progress(conn, row.id),
        instances=[],
        started_at=row.accepted_at,
        completed_at=row.ended_at,
        updated_at=row.updated_at,
        cancelled_at=row.cancelled_at,
        ended_after=await _pace(conn, row),
    )
    return Written(answer, await _write_tasks(conn, row.id, page))


async def read_past(conn: AsyncConnection, deploy_id: str) -> PastDeployment:
    """A deployment with the instances that failed, in the order of the call. Raises UnknownOperationError."""
    row = await find(conn, OperationKind.DEPLOYMENT, deploy_id)
    columns = (TASK.c.instance_id, TASK.c.package_url, TASK.c.url_query, TASK.c.package_sha256)
    of_failed = (TASK.c.operation == row.id, TASK.c.status == Status.FAILED)
    failed = (await conn.execute(select(*columns).where(*of_failed).order_by(TASK.c.id))).all()
    return PastDeployment(
        deploy_id=deploy_id,
        status=Status(row.status),
        service=row.service,
        version=row.version,
        package_url=failed[0].package_url if failed else "",
        query_row=failed[0].url_query if failed else None,
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


async def _write_tasks(conn: AsyncConnection, operation: int, page: InstancePage) -> str:
    """A JSON array of TaskStatus."""
    statement = (
        select(write_object(TASK_STATUS))
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
    return (await conn.execute(write_array(statement))).scalar_one()
