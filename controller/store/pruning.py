"""Removing what is older than its retention: found while reading, then deleted in pieces, so that no look and
no write has to wait for it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Table, delete, func, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lineage import Lived, find_needed
from releasehand.model import HistoryAction, HistoryStatus

from .tables import EVENT, HISTORY, INSTANCE, OPERATION

EVENTS_LOOKED_AT: Final = 500
INSTANCES_LOOKED_AT: Final = 20
DELETED_TOGETHER: Final = 500
KEPT_RELEASES: Final = 10
"""So many releases of its lineage each instance keeps however old they are: `previous` leads there."""
KEPT_ENTRIES: Final = 10
"""So many of the old entries of each instance stay, whatever they say."""

PlaceT = TypeVar("PlaceT", int, str)


@dataclass(frozen=True, slots=True)
class Found(Generic[PlaceT]):
    """Rows that may go, and from where to look on; None when all was looked at."""

    doomed: Sequence[int]
    following: PlaceT | None


async def find_old_events(conn: AsyncConnection, before: datetime, after: int) -> Found[int]:
    """Events before a time whose operation ended before it, or that belong to none. Ids are in the order of
    time: it ends at the first page that is too young.

    The newest row stays: SQLite would give its id again, and who reads on from an id would miss a row."""
    newest = (await conn.execute(select(func.max(EVENT.c.id)))).scalar_one()
    statement = (
        select(EVENT.c.id, EVENT.c.at, EVENT.c.operation, OPERATION.c.ended_at)
        .select_from(EVENT.outerjoin(OPERATION, OPERATION.c.id == EVENT.c.operation))
        .where(EVENT.c.id > after)
        .order_by(EVENT.c.id)
        .limit(EVENTS_LOOKED_AT)
    )
    rows = (await conn.execute(statement)).all()
    doomed = [row.id for row in rows if row.id != newest and _may_go(row, before)]
    is_over = len(rows) < EVENTS_LOOKED_AT or rows[-1].at >= before
    return Found(doomed, None if is_over else rows[-1].id)


def _may_go(row: Row[*tuple[Any, ...]], before: datetime) -> bool:
    if row.at >= before:
        return False
    return row.operation is None or (row.ended_at is not None and row.ended_at < before)


async def find_old_history(conn: AsyncConnection, before: datetime, after: str) -> Found[str]:
    """Entries before a time that neither `previous`, nor the question what ran since that time, needs."""
    named = select(INSTANCE.c.instance_id).where(INSTANCE.c.instance_id > after)
    some = named.order_by(INSTANCE.c.instance_id).limit(INSTANCES_LOOKED_AT)
    names = (await conn.execute(some)).scalars().all()
    old = (
        select(
            HISTORY.c.id,
            HISTORY.c.instance_id,
            HISTORY.c.service,
            HISTORY.c.version,
            HISTORY.c.sha256,
            HISTORY.c.action,
            HISTORY.c.status,
            HISTORY.c.at,
        )
        .where(HISTORY.c.instance_id.in_(names), HISTORY.c.at < before)
        .order_by(HISTORY.c.id)
    )
    newest = (await conn.execute(select(func.max(HISTORY.c.id)))).scalar_one()
    by_instance: dict[str, list[Row[*tuple[Any, ...]]]] = {}
    for row in await conn.execute(old):
        by_instance.setdefault(row.instance_id, []).append(row)
    doomed = [
        row.id
        for rows in by_instance.values()
        for kept in [_find_kept(rows)]
        for row in rows
        if row.id not in kept and row.id != newest
    ]
    return Found(doomed, names[-1] if len(names) == INSTANCES_LOOKED_AT else None)


def _find_kept(rows: Sequence[Row[*tuple[Any, ...]]]) -> set[int]:
    """The ids that must stay of one instance's old entries, oldest first."""
    kept = {row.id for row in rows[-KEPT_ENTRIES:]}
    live = [(row.at, row.id) for row in rows if row.status == HistoryStatus.SUCCESS]
    kept |= {max(live)[1]} if live else set()
    for service in {row.service for row in rows}:  # `previous` looks at each service's own
        of_service = [row for row in rows if row.service == service]
        lived = [
            Lived(row.version, row.sha256, HistoryAction(row.action), HistoryStatus(row.status))
            for row in of_service
        ]
        kept |= {of_service[place].id for place in find_needed(lived, KEPT_RELEASES)}
    return kept


async def remove(conn: AsyncConnection, table: Table, ids: Sequence[int]) -> None:
    """At most DELETED_TOGETHER rows; one that is gone already is no matter."""
    await conn.execute(delete(table).where(table.c.id.in_(ids)))
