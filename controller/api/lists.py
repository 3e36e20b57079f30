"""Lists of operations, services, instances and agents."""

from dataclasses import replace
from typing import Final

from controller.core.lists import AgentFilter, InstanceFilter
from releasehand.model import (
    AgentList,
    DeploymentList,
    InstanceList,
    RollbackList,
    Scope,
    ServiceList,
)

from .list_query import AgentsQuery, DeploymentsQuery, FleetQuery, RollbacksQuery, ServicesQuery
from .reach import by_filter
from .routing import NO_BODY, AnyRoute, Call, Route


async def list_deployments(call: Call[None, DeploymentsQuery]) -> DeploymentList:
    """List deployments, the newest first; `total` counts what the filters let through."""
    return await call.deps.store.list_deployments(
        replace(call.query.wanted, within=call.grant.services), call.query.page
    )


async def list_rollbacks(call: Call[None, RollbacksQuery]) -> RollbackList:
    """List rollbacks, the newest first; `total` counts what the filters let through."""
    return await call.deps.store.list_rollbacks(
        replace(call.query.wanted, within=call.grant.services), call.query.page
    )


async def list_services(call: Call[None, ServicesQuery]) -> ServiceList:
    """List services by name, with how many of their instances are in which status and run which version."""
    return await call.deps.store.list_services(call.query.name or "", call.query.page, call.grant.services)


async def list_instances(call: Call[None, FleetQuery]) -> InstanceList:
    """List instances of all services by id, with host, port and state; retired ones are left out."""
    query = call.query
    wanted = InstanceFilter(
        query.service or "", query.agent_id or "", query.status, query.version or "", call.grant.services
    )
    return await call.deps.store.list_instances(wanted, query.page)


async def list_agents(call: Call[None, AgentsQuery]) -> AgentList:
    """List agents by id, with their presence and how many instances they look after."""
    wanted = AgentFilter(call.query.status, call.query.name or "", call.grant.services)
    return await call.deps.store.list_agents(wanted, call.query.page)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/deployment",
        operation_id="ListDeployments",
        tag="deployment",
        handler=list_deployments,
        answer=DeploymentList,
        query=DeploymentsQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_filter,
    ),
    Route(
        method="GET",
        path="/v1/rollback",
        operation_id="ListRollbacks",
        tag="rollback",
        handler=list_rollbacks,
        answer=RollbackList,
        query=RollbacksQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_filter,
    ),
    Route(
        method="GET",
        path="/v1/service",
        operation_id="ListServices",
        tag="service",
        handler=list_services,
        answer=ServiceList,
        query=ServicesQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_filter,
    ),
    Route(
        method="GET",
        path="/v1/instance",
        operation_id="ListInstances",
        tag="instance",
        handler=list_instances,
        answer=InstanceList,
        query=FleetQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_filter,
    ),
    Route(
        method="GET",
        path="/v1/agent",
        operation_id="ListAgents",
        tag="agent",
        handler=list_agents,
        answer=AgentList,
        query=AgentsQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_filter,
    ),
)
