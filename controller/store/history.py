"""What ran on each instance, and the lineage that `previous` is resolved by."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lineage import Lived, Release, previous_good
from controller.core.refusals import UnknownInstanceError
from controller.core.task import Task
from releasehand.model import HistoryAction, HistoryEntry, HistoryStatus, OperationKind, VersionHistory

from .tables import HISTORY, INSTANCE
from .tasks import chunks

ACTIONS = {OperationKind.DEPLOYMENT: HistoryAction.DEPLOY, OperationKind.ROLLBACK: HistoryAction.ROLLBACK}


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

    What an instance ran while it was another service's is no release to go back to."""
    lived: dict[str, list[Lived]] = {}
    for piece in chunks(list(instance_ids)):
        rows = await conn.execute(
            select(
                HISTORY.c.instance_id, HISTORY.c.version, HISTORY.c.sha256, HISTORY.c.action, HISTORY.c.status
            )
            .where(
                HISTORY.c.instance_id.in_(piece),
                HISTORY.c.service == service,
                HISTORY.c.status == HistoryStatus.SUCCESS,
            )
            .order_by(HISTORY.c.id)
        )
        for instance_id, version, sha256, action, status in rows:
            lived.setdefault(instance_id, []).append(
                Lived(version, sha256, HistoryAction(action), HistoryStatus(status))
            )
    found = {instance_id: previous_good(entries) for instance_id, entries in lived.items()}
    return {instance_id: release for instance_id, release in found.items() if release is not None}


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
