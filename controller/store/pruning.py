"""Removing what is older than its retention: found while reading, then deleted in pieces, so that no look and
no write has to wait for it."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Generic, TypeVar

from sqlalchemy import Table, delete, func, select
from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lineage import Lineage, Lived
from releasehand.model import HistoryAction, HistoryStatus

from .tables import EVENT, HISTORY, INSTANCE, OPERATION

EVENTS_LOOKED_AT: Final = 500
INSTANCES_LOOKED_AT: Final = 20
DELETED_TOGETHER: Final = 500
READ_TOGETHER: Final = 500
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
    """Entries before a time that neither `previous`, nor the question what ran since that time, needs.

    An instance may have any number of them: they are read a few at a time, others in between, and only their
    ids are kept."""
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
        .execution_options(yield_per=READ_TOGETHER)
    )
    newest = (await conn.execute(select(func.max(HISTORY.c.id)))).scalar_one()
    old_ones = {name: _Old() for name in names}
    async for row in await conn.stream(old):
        old_ones[row.instance_id].add(row)
    doomed = array("q")
    for one in old_ones.values():
        kept = one.find_kept() | {newest}
        doomed.extend(number for number in one.ids if number not in kept)
    return Found(doomed, names[-1] if len(names) == INSTANCES_LOOKED_AT else None)


class _Old:
    """What the old entries of one instance say, oldest first."""

    def __init__(self) -> None:
        self.ids = array("q")
        self._live: tuple[datetime, int] | None = None  # the newest by its time, which `?at=` goes by
        self._lineages: dict[str, Lineage] = {}  # `previous` looks at each service's own

    def add(self, row: Row[*tuple[Any, ...]]) -> None:
        self.ids.append(row.id)
        if row.status == HistoryStatus.SUCCESS:
            self._live = max(self._live or (row.at, row.id), (row.at, row.id))
        lineage = self._lineages.setdefault(row.service, Lineage())
        entry = Lived(row.version, row.sha256, HistoryAction(row.action), HistoryStatus(row.status))
        lineage.add(row.id, entry)

    def find_kept(self) -> set[int]:
        """The ids that must stay."""
        kept = set(self.ids[-KEPT_ENTRIES:])
        if self._live is not None:
            kept.add(self._live[1])
        return kept.union(*(lineage.find_needed(KEPT_RELEASES) for lineage in self._lineages.values()))


async def remove(conn: AsyncConnection, table: Table, ids: Sequence[int]) -> None:
    """At most DELETED_TOGETHER rows; one that is gone already is no matter."""
    await conn.execute(delete(table).where(table.c.id.in_(ids)))
