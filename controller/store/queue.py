"""The tasks that the dispatcher has to look at."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import and_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.plan import Standing
from releasehand.model import Phase, Status, WaitingFor

from .tables import INSTANCE, TASK, URL_QUERY
from .tasks import IS_OPEN, chunks, select_tasks, to_task

UNANSWERED: Final = timedelta(seconds=10)
"""An attempt that is still `queued` this long after it was sent was perhaps never received."""

_PREDECESSOR: Final = TASK.alias("predecessor")


async def load_standing(conn: AsyncConnection, ids: Iterable[int]) -> list[Standing]:
    """Tasks by id with what their plans depend on, in the order of their ids; unknown ids are left out."""
    predecessor_open = (
        select(_PREDECESSOR.c.id)
        .where(
            _PREDECESSOR.c.id == TASK.c.behind,
            _PREDECESSOR.c.status.in_([Status.PENDING, Status.IN_PROGRESS]),
        )
        .exists()
    )
    statement = (
        select_tasks()
        .add_columns(
            predecessor_open.label("_predecessor_open"),
            INSTANCE.c.unknown_task.label("_unknown_task"),
            URL_QUERY.c.sealed.label("_sealed"),
        )
        .join(INSTANCE, INSTANCE.c.instance_id == TASK.c.instance_id)
        .outerjoin(URL_QUERY, URL_QUERY.c.id == TASK.c.url_query)
    )
    found: list[Standing] = []
    for piece in chunks(sorted(set(ids))):
        for mapping in (
            await conn.execute(statement.where(TASK.c.id.in_(piece)).order_by(TASK.c.id))
        ).mappings():
            row = dict(mapping)
            predecessor, unknown = row.pop("_predecessor_open"), row.pop("_unknown_task")
            sealed = row.pop("_sealed") or ""
            found.append(Standing(to_task(row), bool(predecessor), unknown is not None, sealed))
    return found


async def due_retries(conn: AsyncConnection, since: datetime, now: datetime) -> list[int]:
    """Tasks whose backoff has ended since then. What is overdue for longer waits for its agent, and is found
    when it returns."""
    due = select(TASK.c.id).where(IS_OPEN, TASK.c.retry_at > since, TASK.c.retry_at <= now)
    return list((await conn.execute(due)).scalars())


async def open_tasks(conn: AsyncConnection, agent_ids: Sequence[str]) -> list[int]:
    """Every open task of these agents."""
    found: list[int] = []
    for piece in chunks(agent_ids):
        found += (await conn.execute(select(TASK.c.id).where(TASK.c.agent_id.in_(piece), IS_OPEN))).scalars()
    return found


async def missed_tasks(conn: AsyncConnection, agent_ids: Sequence[str], now: datetime) -> list[int]:
    """Tasks of connected agents that were never sent, that still say their agent is away, whose cancel is not
    confirmed, whose backoff is over, or whose attempt shows no sign of having been received."""
    unanswered = and_(TASK.c.phase == Phase.QUEUED, TASK.c.updated_at < now - UNANSWERED)
    missed = or_(
        TASK.c.status == Status.PENDING,
        TASK.c.waiting_for == WaitingFor.AGENT_OFFLINE,
        TASK.c.cancel_asked_at.is_not(None),
        TASK.c.retry_at <= now,
        unanswered,
    )
    found: list[int] = []
    for piece in chunks(agent_ids):
        statement = select(TASK.c.id).where(TASK.c.agent_id.in_(piece), IS_OPEN, missed)
        found += (await conn.execute(statement)).scalars()
    return found
