"""Cancelling an operation."""

from datetime import datetime

from sqlalchemy import update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import Actor, AuditEntry
from controller.core.refusals import AlreadyEndedError
from controller.core.task import cancel
from releasehand.model import ENDED, AuditAction, EventKind, OperationKind, Status

from . import audit, events, moves, tasks
from .operations import find
from .tables import OPERATION, TASK


async def cancel_operation(
    conn: AsyncConnection, kind: OperationKind, operation_id: str, actor: Actor, now: datetime
) -> tuple[Status, datetime, list[int]]:
    """Ask every open task of an operation for its end: the status then, when the first cancel was recorded,
    and the tasks whose agents have to be told.

    A repeated cancel changes nothing. Raises UnknownOperationError; AlreadyEndedError if it ended without a
    cancel."""
    operation = await find(conn, kind, operation_id)
    if operation.cancelled_at is not None:
        return Status(operation.status), operation.cancelled_at, []
    if operation.status in ENDED:
        raise AlreadyEndedError(kind, operation_id, Status(operation.status))
    of_operation = tasks.select_tasks().where(TASK.c.operation == operation.id, tasks.IS_OPEN)
    open_tasks = await tasks.fetch(conn, of_operation.with_for_update())
    changes = [moves.Change(move) for task in open_tasks if (move := cancel(task, now)) is not None]
    await conn.execute(update(OPERATION).where(OPERATION.c.id == operation.id).values(cancelled_at=now))
    asked = events.of_operation(operation.id, EventKind.CANCEL_ASKED, now)
    await events.append(conn, [asked])
    changed = await moves.apply(conn, changes, now)
    is_deployment = kind is OperationKind.DEPLOYMENT
    action = AuditAction.CANCEL_DEPLOYMENT if is_deployment else AuditAction.CANCEL_ROLLBACK
    objects = {"deploy_id" if is_deployment else "rollback_id": operation_id, "service": operation.service}
    await audit.record(conn, AuditEntry(now, actor, action, objects=objects))
    status = (await find(conn, kind, operation_id)).status
    return Status(status), now, [c.move.after.id for c in changes if c.move.after.is_open] + changed.woken
