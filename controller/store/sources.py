"""Where each version of a service was last deployed from."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import delete, insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.destination import Source
from controller.core.task import Task

from .tables import SOURCE
from .tasks import chunks


async def remember(conn: AsyncConnection, deployed: Iterable[tuple[Task, str]], now: datetime) -> None:
    """Record the URL and digest of deployments that came true; the newest of a version wins."""
    newest: dict[tuple[str, str], dict[str, Any]] = {}
    for task, sha256 in deployed:
        newest[task.service, task.target_version] = {
            "service": task.service,
            "version": task.target_version,
            "package_url": task.package_url,
            "url_query": task.url_query,
            "sha256": sha256 or task.package_sha256,
            "updated_at": now,
        }
    if newest:
        await conn.execute(delete(SOURCE).where(tuple_(SOURCE.c.service, SOURCE.c.version).in_(list(newest))))
        await conn.execute(insert(SOURCE), list(newest.values()))


async def recorded(conn: AsyncConnection, service: str, versions: Iterable[str]) -> Mapping[str, Source]:
    """By version, what is recorded of it."""
    found: dict[str, Source] = {}
    names: Sequence[str] = sorted(versions)
    for piece in chunks(names):
        statement = select(SOURCE).where(SOURCE.c.service == service, SOURCE.c.version.in_(piece))
        for row in await conn.execute(statement):
            found[row.version] = Source(row.package_url, row.url_query, row.sha256)
    return found
