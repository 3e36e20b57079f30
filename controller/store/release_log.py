"""Reading the release log of one operation."""

from typing import Any

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lists import LogPage
from releasehand.model import EventKind, OperationKind, ReleaseEvent, ReleaseLog, Status

from .operations import find
from .tables import EVENT


async def read(conn: AsyncConnection, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
    """Events in the order in which they were recorded, and the operation's status at the same moment.

    Raises UnknownOperationError. The log of an operation that ended long ago may be removed: it is empty."""
    operation = await find(conn, kind, operation_id)
    statement = select(EVENT).where(EVENT.c.operation == operation.id, EVENT.c.id > page.after)
    if page.instance_id:
        statement = statement.where(EVENT.c.instance_id == page.instance_id)
    statement = statement.order_by(EVENT.c.id).limit(page.limit + 1)
    rows = (await conn.execute(statement)).mappings().all()
    events = [_event(dict(row)) for row in rows[: page.limit]]
    name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
    return ReleaseLog(
        **{name: operation_id},
        status=Status(operation.status),
        events=events,
        next_after=events[-1].id if events else page.after,
        has_more=len(rows) > page.limit,
    )


def _event(row: dict[str, Any]) -> ReleaseEvent:
    kind = EventKind(row["event"])
    text = row["message"]
    told = {"message": "", "log_tail": text} if kind is EventKind.LOG_TAIL else {"log_tail": ""}
    return ReleaseEvent.model_validate(row | {"kind": kind} | told)
