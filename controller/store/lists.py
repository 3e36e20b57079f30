"""Pages of operations, services, instances and agents."""

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, case, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.lists import AgentFilter, InstanceFilter, OperationFilter, Page
from releasehand.model import (
    Agent,
    AgentList,
    DeploymentList,
    DeploymentSummary,
    InstanceList,
    InstanceStatus,
    ListedInstance,
    OperationKind,
    RollbackList,
    RollbackSummary,
    ServiceList,
    ServiceSummary,
)

from .instances import DETAILS, STATUS, to_details
from .tables import AGENT, INSTANCE, OPERATION

Conditions = list[ColumnElement[bool]]

_OPERATIONS: Final = select(
    OPERATION.c.operation_id,
    OPERATION.c.service,
    OPERATION.c.version,
    OPERATION.c.rollback_type,
    OPERATION.c.status,
    OPERATION.c.instance_count.label("total_instances"),
    OPERATION.c.accepted_at.label("started_at"),
    OPERATION.c.updated_at,
    OPERATION.c.ended_at.label("completed_at"),
    OPERATION.c.cancelled_at,
)
_LISTED: Final = INSTANCE.c.retired_at.is_(None)
_WITH_AGENT: Final = INSTANCE.join(AGENT, AGENT.c.agent_id == INSTANCE.c.agent_id)


async def read_deployments(conn: AsyncConnection, wanted: OperationFilter, page: Page) -> DeploymentList:
    """Newest first."""
    rows, total = await _read_operations(conn, OperationKind.DEPLOYMENT, wanted, page)
    found = [DeploymentSummary.model_validate(row | {"deploy_id": row["operation_id"]}) for row in rows]
    return DeploymentList(deployments=found, total=total, limit=page.limit, offset=page.offset)


async def read_rollbacks(conn: AsyncConnection, wanted: OperationFilter, page: Page) -> RollbackList:
    """Newest first."""
    rows, total = await _read_operations(conn, OperationKind.ROLLBACK, wanted, page)
    found = [
        RollbackSummary.model_validate(
            row | {"rollback_id": row["operation_id"], "target_version": row["version"]}
        )
        for row in rows
    ]
    return RollbackList(rollbacks=found, total=total, limit=page.limit, offset=page.offset)


async def _read_operations(
    conn: AsyncConnection, kind: OperationKind, wanted: OperationFilter, page: Page
) -> tuple[list[dict[str, Any]], int]:
    conditions: Conditions = [OPERATION.c.kind == kind]
    if wanted.service:
        conditions.append(OPERATION.c.service == wanted.service)
    if wanted.within:
        conditions.append(OPERATION.c.service.in_(wanted.within))
    if wanted.status is not None:
        conditions.append(OPERATION.c.status == wanted.status)
    if wanted.since is not None:
        conditions.append(OPERATION.c.accepted_at >= wanted.since)
    if wanted.until is not None:
        conditions.append(OPERATION.c.accepted_at < wanted.until)
    if wanted.rollback_type is not None:
        conditions.append(OPERATION.c.rollback_type == wanted.rollback_type)
    total = await _count(conn, select(func.count()).select_from(OPERATION).where(*conditions))
    newest_first = _OPERATIONS.where(*conditions).order_by(
        OPERATION.c.accepted_at.desc(), OPERATION.c.id.desc()
    )
    return await _rows(conn, newest_first, page), total


async def read_services(
    conn: AsyncConnection, name: str, page: Page, within: frozenset[str] = frozenset()
) -> ServiceList:
    """By name; `name` is a part of it, in capitals or not."""
    conditions: Conditions = [_LISTED]
    if name:
        conditions.append(_has_part(INSTANCE.c.service, name))
    if within:
        conditions.append(INSTANCE.c.service.in_(within))
    distinct = func.count(INSTANCE.c.service.distinct())
    total = await _count(conn, select(distinct).where(*conditions))
    counted = [_count_of(status).label(status.value) for status in InstanceStatus]
    statement = (
        select(INSTANCE.c.service, func.count().label("total_instances"), *counted)
        .select_from(_WITH_AGENT)
        .where(*conditions)
        .group_by(INSTANCE.c.service)
        .order_by(INSTANCE.c.service)
    )
    rows = await _rows(conn, statement, page)
    versions = await _versions(conn, [row["service"] for row in rows])
    found = [
        ServiceSummary.model_validate(row | {"version_summary": versions.get(row["service"], {})})
        for row in rows
    ]
    return ServiceList(services=found, total=total, limit=page.limit, offset=page.offset)


def _count_of(status: InstanceStatus) -> ColumnElement[int]:
    is_so: ColumnElement[bool] = STATUS.in_([status])
    return func.sum(case((is_so, 1), else_=0))


async def _versions(conn: AsyncConnection, services: list[str]) -> Mapping[str, dict[str, int]]:
    statement = (
        select(INSTANCE.c.service, INSTANCE.c.active_version, func.count())
        .where(_LISTED, INSTANCE.c.service.in_(services))
        .group_by(INSTANCE.c.service, INSTANCE.c.active_version)
        .order_by(INSTANCE.c.service, INSTANCE.c.active_version)
    )
    found: dict[str, dict[str, int]] = {}
    for service, version, count in await conn.execute(statement):
        found.setdefault(service, {})[version] = count
    return found


async def read_instances(conn: AsyncConnection, wanted: InstanceFilter, page: Page) -> InstanceList:
    """By id, of all services; retired ones are left out."""
    conditions: Conditions = [_LISTED]
    if wanted.service:
        conditions.append(INSTANCE.c.service == wanted.service)
    if wanted.within:
        conditions.append(INSTANCE.c.service.in_(wanted.within))
    if wanted.agent_id:
        conditions.append(INSTANCE.c.agent_id == wanted.agent_id)
    if wanted.status is not None:
        conditions.append(STATUS.in_([wanted.status]))
    if wanted.version:
        conditions.append(INSTANCE.c.active_version == wanted.version)
    total = await _count(conn, select(func.count()).select_from(_WITH_AGENT).where(*conditions))
    more = (INSTANCE.c.service, INSTANCE.c.updated_at.label("last_updated"))
    statement = select(*DETAILS, *more).select_from(_WITH_AGENT).where(*conditions)
    rows = await _rows(conn, statement.order_by(INSTANCE.c.instance_id), page)
    found = [ListedInstance.model_validate(to_details(row)) for row in rows]
    return InstanceList(instances=found, total=total, limit=page.limit, offset=page.offset)


async def read_agents(conn: AsyncConnection, wanted: AgentFilter, page: Page) -> AgentList:
    """By id."""
    conditions: Conditions = []
    if wanted.status is not None:
        conditions.append(AGENT.c.presence == wanted.status)
    if wanted.name:
        conditions.append(or_(_has_part(AGENT.c.agent_id, wanted.name), _has_part(AGENT.c.host, wanted.name)))
    of_agent = [INSTANCE.c.agent_id == AGENT.c.agent_id, _LISTED]
    if wanted.within:
        of_agent.append(INSTANCE.c.service.in_(wanted.within))
        conditions.append(select(INSTANCE.c.instance_id).where(*of_agent).correlate(AGENT).exists())
    total = await _count(conn, select(func.count()).select_from(AGENT).where(*conditions))
    mine = select(func.count()).where(*of_agent)
    statement = select(
        AGENT.c.agent_id,
        AGENT.c.host,
        AGENT.c.version,
        AGENT.c.presence.label("status"),
        AGENT.c.presence_changed_at.label("status_since"),
        AGENT.c.first_seen_at.label("first_seen"),
        AGENT.c.last_heartbeat_at.label("last_heartbeat"),
        mine.correlate(AGENT).scalar_subquery().label("total_instances"),
        AGENT.c.rejected_reports,
        AGENT.c.facts.label("metadata"),
    ).where(*conditions)
    rows = await _rows(conn, statement.order_by(AGENT.c.agent_id), page)
    found = [Agent.model_validate(row) for row in rows]
    return AgentList(agents=found, total=total, limit=page.limit, offset=page.offset)


def _has_part(column: ColumnElement[str], part: str) -> ColumnElement[bool]:
    """The databases differ in whether LIKE minds capitals."""
    return func.lower(column).contains(part.lower(), autoescape=True)


async def _count(conn: AsyncConnection, statement: Select[Any]) -> int:
    total: int = (await conn.execute(statement)).scalar_one()
    return total


async def _rows(conn: AsyncConnection, statement: Select[Any], page: Page) -> list[dict[str, Any]]:
    rows = await conn.execute(statement.limit(page.limit).offset(page.offset))
    return [dict(row) for row in rows.mappings()]
