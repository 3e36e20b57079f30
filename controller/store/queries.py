"""The queries of package URLs: credentials where a URL is presigned. Sealed, one row for a whole operation,
and kept no longer than something may need them."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, insert, select, union, update
from sqlalchemy.ext.asyncio import AsyncConnection

from releasehand.model import Status
from shared.sealing import Keyring, SealError, find_key_id

from .tables import SOURCE, TASK, URL_QUERY
from .tasks import IS_OPEN, chunks

KEPT_FOR_RETRIES: Final = timedelta(hours=24)
"""How long after a failure its query stays, for who deploys again to what has failed."""


async def keep(conn: AsyncConnection, url: str, query: str, keyring: Keyring) -> int:
    """Store the query of `url`; where it stands."""
    row = insert(URL_QUERY).values(sealed=keyring.seal(query, url)).returning(URL_QUERY.c.id)
    return int((await conn.execute(row)).scalar_one())


def _needs(now: datetime) -> Sequence[ColumnElement[bool]]:
    """Which tasks need theirs. Each is found by an index of its own."""
    failed = (TASK.c.completed_at > now - KEPT_FOR_RETRIES) & (TASK.c.status == Status.FAILED)
    return IS_OPEN, failed


async def remove_unneeded(conn: AsyncConnection, now: datetime) -> int:
    """Forget what no open task, no retry and no source needs; how many.

    The newest row stays: SQLite would give its id again, and what is named by an older task would be another
    secret."""
    needed = union(
        select(SOURCE.c.url_query).where(SOURCE.c.url_query.is_not(None)),
        *(select(TASK.c.url_query).where(TASK.c.url_query.is_not(None), some) for some in _needs(now)),
    )
    newest = (await conn.execute(select(func.max(URL_QUERY.c.id)))).scalar_one()
    doomed = delete(URL_QUERY).where(URL_QUERY.c.id.not_in(needed), URL_QUERY.c.id != newest)
    return int((await conn.execute(doomed)).rowcount)


async def reseal(conn: AsyncConnection, keyring: Keyring, now: datetime) -> list[str]:
    """Seal with the present key what older ones have sealed; the ids of keys that are missing for it.

    After that an older key may be thrown away."""
    urls: dict[int, str] = {}
    of_tasks = (
        select(TASK.c.url_query, TASK.c.package_url).where(TASK.c.url_query.is_not(None), some)
        for some in _needs(now)
    )
    of_sources = select(SOURCE.c.url_query, SOURCE.c.package_url).where(SOURCE.c.url_query.is_not(None))
    for statement in (of_sources, *of_tasks):
        urls |= {row.url_query: row.package_url for row in await conn.execute(statement)}
    missing: set[str] = set()
    rows = [
        row
        for piece in chunks(sorted(urls))
        for row in await conn.execute(select(URL_QUERY).where(URL_QUERY.c.id.in_(piece)))
    ]
    for row in rows:
        try:
            if find_key_id(row.sealed) == keyring.key_id:
                continue
            query = keyring.unseal(row.sealed, urls[row.id])
        except SealError:
            missing.add(row.sealed.split(".")[1] if row.sealed.count(".") else "?")
            continue
        sealed = keyring.seal(query, urls[row.id])
        await conn.execute(update(URL_QUERY).where(URL_QUERY.c.id == row.id).values(sealed=sealed))
    return sorted(missing)
