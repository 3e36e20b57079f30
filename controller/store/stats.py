"""Figures of the system, computed from rows at the time of asking: nothing is counted up."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.figures import STEP, TURN, Sample, rank_failures, summarise, summarise_phases
from releasehand.model import (
    EventOutcome,
    OperationCounts,
    OperationKind,
    Period,
    ReportFigures,
    Status,
    SystemStats,
    TaskFigures,
)

from . import instances
from .tables import AGENT, EVENT, OPERATION, PHASE_ENDED_SQL, TASK
from .tasks import chunks

SPAN: Final = {
    Period.HOUR: timedelta(hours=1),
    Period.DAY: timedelta(days=1),
    Period.WEEK: timedelta(days=7),
    Period.MONTH: timedelta(days=30),
}
TIMED_TASKS: Final = 5_000
"""Durations are those of so many tasks at most, give or take a few: what is read stays bounded however much
ended. The share of tasks below a percentile of the sample is off by 1.4 points at most (two standard
deviations, for p50)."""


async def read(
    conn: AsyncConnection, period: Period, now: datetime, timed_tasks: int = TIMED_TASKS
) -> SystemStats:
    """Operations and tasks that ended within the period, and instances as they are now."""
    since = now - SPAN[period]
    rows = await conn.execute(
        select(OPERATION.c.kind, OPERATION.c.status, func.count())
        .where(OPERATION.c.kind.in_(list(OperationKind)), OPERATION.c.ended_at > since)
        .group_by(OPERATION.c.kind, OPERATION.c.status)
    )
    counts = {(OperationKind(kind), Status(status)): count for kind, status, count in rows}
    return SystemStats(
        period=period,
        deployments=_counts(counts, OperationKind.DEPLOYMENT),
        rollbacks=_counts(counts, OperationKind.ROLLBACK),
        instances=await instances.count(conn),
        reports=await _reports(conn),
        tasks=await _tasks(conn, since, timed_tasks),
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


async def _reports(conn: AsyncConnection) -> ReportFigures:
    """As far as they are kept here."""
    rejected = select(func.coalesce(func.sum(AGENT.c.rejected_reports), 0))
    return ReportFigures(rejected=int((await conn.execute(rejected)).scalar_one()))


async def _tasks(conn: AsyncConnection, since: datetime, timed_tasks: int) -> TaskFigures:
    ended = TASK.c.completed_at > since
    count = (await conn.execute(select(func.count()).select_from(TASK).where(ended))).scalar_one()
    failures = await conn.execute(
        select(TASK.c.error_code, func.count().label("failed"))
        .where(ended, TASK.c.status == Status.FAILED)
        .group_by(TASK.c.error_code)
    )
    timed = await conn.execute(
        select(TASK.c.id, TASK.c.accepted_at, TASK.c.completed_at).where(
            ended, _is_in(Sample.of(count, timed_tasks))
        )
    )
    took_s = {row.id: (row.completed_at - row.accepted_at).total_seconds() for row in timed}
    return TaskFigures(
        ended=count,
        timed=len(took_s),
        total=summarise(took_s.values()),
        phases=summarise_phases(await _phases(conn, took_s)),
        failures=rank_failures({row.error_code: row.failed for row in failures}),
    )


def _is_in(sample: Sample) -> ColumnElement[bool]:
    """What `Sample.takes` says, for the database."""
    return true() if sample.is_whole else TASK.c.id % TURN * STEP % TURN < sample.share


async def _phases(conn: AsyncConnection, timed: Iterable[int]) -> list[tuple[str, float]]:
    """Each phase that was left, in every attempt, as far as the log is kept. How long one took whose end
    nobody saw is not known."""
    left = select(EVENT.c.phase, EVENT.c.duration_s).where(
        text(PHASE_ENDED_SQL),  # as the index says it: SQLite compares no parameters with it
        EVENT.c.outcome != EventOutcome.UNKNOWN,
        EVENT.c.duration_s.is_not(None),
    )
    found: list[tuple[str, float]] = []
    for piece in chunks(sorted(timed)):
        rows = await conn.execute(left.where(EVENT.c.task.in_(piece)))
        found += [(phase, duration_s) for phase, duration_s in rows]
    return found
