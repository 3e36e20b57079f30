"""What ran on each instance, and the lineage that `previous` is resolved by."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Final

from sqlalchemy import CTE, ColumnElement, FromClause, func, insert, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lineage import HistoryTooShortError, Lived, Release, previous_good
from controller.core.refusals import UnknownInstanceError, UnknownServiceError
from controller.core.task import Task
from releasehand.model import (
    HistoryAction,
    HistoryEntry,
    HistoryStatus,
    InstanceStatus,
    InstanceVersion,
    OperationKind,
    ServiceVersions,
    VersionHistory,
)

from .tables import HISTORY, INSTANCE
from .tasks import chunks

ACTIONS = {
    OperationKind.DEPLOYMENT: HistoryAction.DEPLOY,
    OperationKind.ROLLBACK: HistoryAction.ROLLBACK,
}


LOOKED_BACK: Final = 50
"""So many entries of each instance nearly always tell its previous release."""


async def append(conn: AsyncConnection, entries: Sequence[dict[str, Any]]) -> None:
    if entries:
        await conn.execute(insert(HISTORY), entries)


def of_task(task: Task, status: HistoryStatus, sha256: str, at: datetime) -> dict[str, Any]:
    """The entry of an ended task that was dispatched: the version it attempted."""
    return {
        "instance_id": task.instance_id,
        "service": task.service,
        "version": task.target_version,
        "sha256": sha256 or task.package_sha256,
        "action": ACTIONS[task.kind],
        "status": status,
        "operation_id": task.operation_id,
        "at": at,
    }


def of_change(
    instance_id: str,
    service: str,
    version: str,
    sha256: str,
    action: HistoryAction,
    at: datetime,
    operation_id: str = "",
) -> dict[str, Any]:
    """The entry of an unplanned change: the version that is live now."""
    return {
        "instance_id": instance_id,
        "service": service,
        "version": version,
        "sha256": sha256,
        "action": action,
        "status": HistoryStatus.SUCCESS,
        "operation_id": operation_id,
        "at": at,
    }


async def previous_of(conn: AsyncConnection, service: str, instance_ids: Iterable[str]) -> dict[str, Release]:
    """Each instance's own previous good release of `service`; an instance without one is left out.

    What an instance ran while it was another service's is no release to go back to. Of each instance the
    newest LOOKED_BACK entries are read; all of them only where those do not tell."""
    found: dict[str, Release | None] = {}
    unclear: list[str] = []
    for name, entries in (await _lived(conn, service, list(instance_ids), LOOKED_BACK)).items():
        try:
            found[name] = previous_good(entries, complete=len(entries) < LOOKED_BACK)
        except HistoryTooShortError:
            unclear.append(name)
    for name, entries in (await _lived(conn, service, unclear, None)).items():
        found[name] = previous_good(entries)
    return {name: release for name, release in found.items() if release is not None}


async def _lived(
    conn: AsyncConnection, service: str, instance_ids: Sequence[str], newest: int | None
) -> dict[str, list[Lived]]:
    """What came true on each instance, oldest first: the `newest` entries, or all."""
    lived: dict[str, list[Lived]] = {}
    columns = (HISTORY.c.instance_id, HISTORY.c.version, HISTORY.c.sha256, HISTORY.c.action, HISTORY.c.status)
    came_true = (HISTORY.c.service == service, HISTORY.c.status == HistoryStatus.SUCCESS)
    for piece in chunks(instance_ids):
        statement = select(*columns).where(*came_true)
        if newest is None:
            statement = statement.where(HISTORY.c.instance_id.in_(piece))
        else:
            starts = _starts(service, piece, newest)
            same = HISTORY.c.instance_id == starts.c.instance_id
            statement = statement.join(starts, same).where(HISTORY.c.id >= starts.c.oldest)
        rows = await conn.execute(statement.order_by(HISTORY.c.id))
        for instance_id, version, sha256, action, status in rows:
            lived.setdefault(instance_id, []).append(
                Lived(version, sha256, HistoryAction(action), HistoryStatus(status))
            )
    return lived


def _starts(service: str, instance_ids: Sequence[str], newest: int) -> CTE:
    """By instance, the oldest of its `newest` entries; it is worked out once for each instance."""
    older = HISTORY.alias("older")
    oldest = (
        select(older.c.id)
        .where(
            older.c.instance_id == INSTANCE.c.instance_id,
            older.c.service == service,
            older.c.status == HistoryStatus.SUCCESS,
        )
        .order_by(older.c.id.desc())
        .limit(1)
        .offset(newest - 1)
        .correlate(INSTANCE)
        .scalar_subquery()
    )
    chosen = select(INSTANCE.c.instance_id, func.coalesce(oldest, 0).label("oldest"))
    return chosen.where(INSTANCE.c.instance_id.in_(instance_ids)).cte("starts").prefix_with("MATERIALIZED")


async def read(conn: AsyncConnection, instance_id: str, *, limit: int, offset: int) -> VersionHistory:
    """Newest first. A retired instance still has its history. Raises UnknownInstanceError."""
    service = (
        await conn.execute(select(INSTANCE.c.service).where(INSTANCE.c.instance_id == instance_id))
    ).scalar_one_or_none()
    if service is None:
        raise UnknownInstanceError([instance_id])
    of_instance = HISTORY.c.instance_id == instance_id
    total = (await conn.execute(select(func.count()).select_from(HISTORY).where(of_instance))).scalar_one()
    rows = await conn.execute(
        select(HISTORY.c.version, HISTORY.c.action, HISTORY.c.operation_id, HISTORY.c.at, HISTORY.c.status)
        .where(of_instance)
        .order_by(HISTORY.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    entries = [
        HistoryEntry(version=version, action=action, deploy_id=operation_id, timestamp=at, status=status)
        for version, action, operation_id, at, status in rows
    ]
    return VersionHistory(instance_id=instance_id, service=service, history=entries, total=total)


def _newest_live(
    instance_id: ColumnElement[str], of: FromClause, at: datetime | None
) -> ColumnElement[int | None]:
    """The id of the entry that says what was live on an instance of `of` at a time, or now.

    Every entry that succeeded says so, whatever its action: the newest one counts."""
    entry = HISTORY.alias("entry")
    statement = select(entry.c.id).where(
        entry.c.instance_id == instance_id, entry.c.status == HistoryStatus.SUCCESS
    )
    if at is not None:
        statement = statement.where(entry.c.at <= at)
    newest = statement.order_by(entry.c.at.desc(), entry.c.id.desc()).limit(1)
    return newest.correlate(of).scalar_subquery()


async def read_live(conn: AsyncConnection, instance_ids: Iterable[str]) -> dict[str, Release]:
    """What is live on each instance as its history tells it; one without history is left out."""
    newest = HISTORY.c.id == _newest_live(INSTANCE.c.instance_id, INSTANCE, None)
    joined = INSTANCE.join(HISTORY, newest)
    live = select(HISTORY.c.instance_id, HISTORY.c.version, HISTORY.c.sha256).select_from(joined)
    found: dict[str, Release] = {}
    for piece in chunks(sorted(set(instance_ids))):
        for row in await conn.execute(live.where(INSTANCE.c.instance_id.in_(piece))):
            found[row.instance_id] = Release(row.version, row.sha256)
    return found


async def read_versions_at(
    conn: AsyncConnection, service: str, at: datetime, *, include_stopped: bool
) -> ServiceVersions:
    """What ran at a time, told by the history alone: an instance on which nothing was live is `stopped`,
    every other one counts as `running`; `last_updated` is since when.

    An instance is left out before its first entry, from the time on at which it was retired, and while it was
    another service's. Raises UnknownServiceError for a service that never had an instance."""
    ever = select(HISTORY.c.id).where(
        HISTORY.c.service == service, HISTORY.c.instance_id == INSTANCE.c.instance_id
    )
    candidates = or_(INSTANCE.c.service == service, ever.correlate(INSTANCE).exists())
    # In two steps: in one, a planner may begin with all that the service ever ran.
    newest = select(_newest_live(INSTANCE.c.instance_id, INSTANCE, at)).where(candidates)
    ids = (await conn.execute(newest)).scalars().all()
    if not ids:
        raise UnknownServiceError(service)
    listed = or_(INSTANCE.c.retired_at.is_(None), INSTANCE.c.retired_at > at)
    entries = (
        select(HISTORY.c.instance_id, HISTORY.c.version, HISTORY.c.at)
        .join(INSTANCE, INSTANCE.c.instance_id == HISTORY.c.instance_id)
        .where(HISTORY.c.service == service, listed)
    )
    found = [
        _version_at(row.instance_id, row.version, row.at)
        for piece in chunks([one for one in ids if one is not None])
        for row in await conn.execute(entries.where(HISTORY.c.id.in_(piece)))
        if row.version or include_stopped
    ]
    shown = sorted(found, key=lambda one: one.instance_id)
    summary: dict[str, int] = {}
    for one in shown:
        summary[one.version] = summary.get(one.version, 0) + 1
    return ServiceVersions(
        service=service,
        instances=shown,
        version_summary=summary,
        total_instances=len(shown),
        updated_at=max((one.last_updated for one in shown), default=at),
        at=at,
    )


def _version_at(instance_id: str, version: str, since: datetime) -> InstanceVersion:
    return InstanceVersion(
        instance_id=instance_id,
        version=version,
        status=InstanceStatus.RUNNING if version else InstanceStatus.STOPPED,
        last_updated=since,
        status_reason="" if version else "nothing_installed",
    )
