"""What a caller sees of services and their instances."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, case, func, literal, not_, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.refusals import UnknownServiceError
from controller.core.written import Written
from releasehand.model import (
    Drift,
    Instance,
    InstanceCounts,
    InstanceStatus,
    Presence,
    ServiceInstances,
    ServiceState,
    ServiceVersions,
)

from .acceptance import service_exists
from .claims import AT_WORK
from .json_rows import write_array, write_object, write_time
from .tables import AGENT, INSTANCE

_OFFLINE: Final = AGENT.c.presence == Presence.OFFLINE
_EMPTY: Final = INSTANCE.c.active_version == ""
_UNREADABLE: Final = and_(_EMPTY, INSTANCE.c.reason != "")
_STOPPED: Final = INSTANCE.c.state == ServiceState.STOPPED
_FAILED: Final = INSTANCE.c.state == ServiceState.FAILED

STATUS: Final[ColumnElement[str]] = case(
    (_OFFLINE, literal(InstanceStatus.ERROR.value)),
    (INSTANCE.c.broken, literal(InstanceStatus.ERROR.value)),
    (_UNREADABLE, literal(InstanceStatus.ERROR.value)),
    (_EMPTY, literal(InstanceStatus.STOPPED.value)),
    (_STOPPED, literal(InstanceStatus.STOPPED.value)),
    (_FAILED, literal(InstanceStatus.ERROR.value)),
    else_=literal(InstanceStatus.RUNNING.value),
)
REASON: Final[ColumnElement[str]] = case(
    (_OFFLINE, literal("agent_offline")),
    (INSTANCE.c.broken, literal("broken")),
    (_UNREADABLE, INSTANCE.c.reason),
    (_EMPTY, literal("nothing_installed")),
    (_STOPPED, literal("service_inactive")),
    (and_(_FAILED, INSTANCE.c.reason == ""), literal("check_failing")),
    (_FAILED, INSTANCE.c.reason),
    else_=literal(""),
)
"""The same rules as controller.core.instance.judge, so that the database can filter and count by them."""


_DRIFTED: Final[ColumnElement[bool]] = and_(
    or_(
        INSTANCE.c.expected_version != INSTANCE.c.active_version,
        INSTANCE.c.expected_sha256 != INSTANCE.c.active_sha256,
    ),
    not_(AT_WORK),  # what is live then is explained by a report to come
)


DETAILS: Final = (
    INSTANCE.c.instance_id,
    AGENT.c.host,
    INSTANCE.c.port,
    STATUS.label("status"),
    INSTANCE.c.active_version.label("version"),
    AGENT.c.last_heartbeat_at.label("last_heartbeat"),
    INSTANCE.c.facts.label("metadata"),
    REASON.label("status_reason"),
    INSTANCE.c.agent_id,
    INSTANCE.c.expected_version,
    _DRIFTED.label("drifted"),
)
"""What is told of an instance where each is told of by itself."""


VERSION: Final[Mapping[str, ColumnElement[Any]]] = {
    "instance_id": INSTANCE.c.instance_id,
    "version": INSTANCE.c.active_version,
    "status": STATUS,
    "last_updated": write_time(INSTANCE.c.updated_at),
    "status_reason": REASON,
}
"""The fields of an InstanceVersion."""


def _listed(*columns: Any) -> Select[Any]:
    """Instances that are not retired, with their agents."""
    joined = INSTANCE.join(AGENT, AGENT.c.agent_id == INSTANCE.c.agent_id)
    return select(*columns).select_from(joined).where(INSTANCE.c.retired_at.is_(None))


async def find_service(conn: AsyncConnection, instance_id: str) -> str | None:
    """The service that an instance is of, retired or not; None if there is no such instance."""
    wanted = select(INSTANCE.c.service).where(INSTANCE.c.instance_id == instance_id)
    return (await conn.execute(wanted)).scalar_one_or_none()


async def read_versions(
    conn: AsyncConnection, service: str, *, include_stopped: bool, now: datetime
) -> Written[ServiceVersions]:
    """Raises UnknownServiceError."""
    conditions = [INSTANCE.c.service == service]
    if not include_stopped:
        conditions.append(STATUS != InstanceStatus.STOPPED)
    version = INSTANCE.c.active_version
    counted = _listed(version, func.count(), func.max(INSTANCE.c.updated_at)).group_by(version)
    rows = (await conn.execute(counted.where(*conditions).order_by(version))).all()
    if not rows and not await service_exists(conn, service):
        raise UnknownServiceError(service)
    summary = {name: count for name, count, _ in rows}
    answer = ServiceVersions(
        service=service,
        instances=[],
        version_summary=summary,
        total_instances=sum(summary.values()),
        updated_at=max((updated_at for *_, updated_at in rows), default=now),
    )
    instances = _listed(write_object(VERSION)).where(*conditions).order_by(INSTANCE.c.instance_id)
    return Written(answer, (await conn.execute(write_array(instances))).scalar_one())


async def read_instances(
    conn: AsyncConnection,
    service: str,
    *,
    status: InstanceStatus | None,
    version: str,
    limit: int,
    offset: int,
) -> ServiceInstances:
    """`total` counts what the filters leave, over all pages. Raises UnknownServiceError."""
    conditions: list[ColumnElement[bool]] = [INSTANCE.c.service == service]
    if status is not None:
        conditions.append(STATUS.in_([status]))
    if version:
        conditions.append(INSTANCE.c.active_version == version)
    total = (await conn.execute(_listed(func.count()).where(*conditions))).scalar_one()
    if not total and not await service_exists(conn, service):
        raise UnknownServiceError(service)
    statement = _listed(*DETAILS)
    page = statement.where(*conditions).order_by(INSTANCE.c.instance_id).limit(limit).offset(offset)
    found = [Instance.model_validate(to_details(dict(row))) for row in (await conn.execute(page)).mappings()]
    return ServiceInstances(service=service, instances=found, total=total, limit=limit, offset=offset)


def to_details(row: dict[str, Any]) -> dict[str, Any]:
    """The fields of an Instance from a row of DETAILS."""
    drift = Drift(expected=row["expected_version"], found=row["version"]) if row["drifted"] else None
    return row | {"drift": drift}


async def count(conn: AsyncConnection) -> InstanceCounts:
    """Healthy is `running`, which an instance of an unreachable agent never is."""
    healthy = func.coalesce(func.sum(case((STATUS == InstanceStatus.RUNNING, 1), else_=0)), 0)
    total, running = (await conn.execute(_listed(func.count(), healthy))).one()
    return InstanceCounts(total=total, healthy=running, unhealthy=total - running)
