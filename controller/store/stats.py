"""Figures of the system, computed from rows at the time of asking: nothing is counted up."""

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from releasehand.model import OperationCounts, OperationKind, Period, Status, SystemStats

from . import instances
from .tables import OPERATION

SPAN: Final = {
    Period.HOUR: timedelta(hours=1),
    Period.DAY: timedelta(days=1),
    Period.WEEK: timedelta(days=7),
    Period.MONTH: timedelta(days=30),
}


async def read(conn: AsyncConnection, period: Period, now: datetime) -> SystemStats:
    """Operations that ended within the period, and instances as they are now."""
    rows = await conn.execute(
        select(OPERATION.c.kind, OPERATION.c.status, func.count())
        .where(OPERATION.c.kind.in_(list(OperationKind)), OPERATION.c.ended_at > now - SPAN[period])
        .group_by(OPERATION.c.kind, OPERATION.c.status)
    )
    counts = {(OperationKind(kind), Status(status)): count for kind, status, count in rows}
    return SystemStats(
        period=period,
        deployments=_counts(counts, OperationKind.DEPLOYMENT),
        rollbacks=_counts(counts, OperationKind.ROLLBACK),
        instances=await instances.count(conn),
        timestamp=now,
    )


def _counts(counts: dict[tuple[OperationKind, Status], int], kind: OperationKind) -> OperationCounts:
    success, failed, cancelled = (
        counts.get((kind, status), 0) for status in (Status.COMPLETED, Status.FAILED, Status.CANCELLED)
    )
    decided = success + failed
    return OperationCounts(
        total=decided + cancelled,
        success=success,
        failed=failed,
        cancelled=cancelled,
        success_rate=success / decided if decided else 0.0,
    )
