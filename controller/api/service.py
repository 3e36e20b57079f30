"""What runs where (spec: 接口参考 2.1–2.2)."""

from typing import Final

from releasehand.model import ErrorType, ServiceInstances, ServiceVersions

from .query import DEFAULT_LIMIT, InstancesQuery, VersionsQuery
from .routing import NO_BODY, AnyRoute, Call, Route


async def get_service_instance_versions(call: Call[None, VersionsQuery]) -> ServiceVersions:
    """Tell which version each instance of a service runs, and how many run each."""
    return await call.deps.store.service_versions(call.name, include_stopped=call.query.include_stopped)


async def get_service_instances(call: Call[None, InstancesQuery]) -> ServiceInstances:
    """List the instances of a service with host, port and state; `total` counts what the filters let
    through."""
    query = call.query
    return await call.deps.store.service_instances(
        call.name,
        status=query.status,
        version=query.version or "",
        limit=query.limit or DEFAULT_LIMIT,
        offset=query.offset,
    )


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/service/{service}/versions",
        operation_id="GetServiceInstanceVersions",
        tag="service",
        handler=get_service_instance_versions,
        answer=ServiceVersions,
        query=VersionsQuery,
        body=NO_BODY,
        refusals=(ErrorType.UNKNOWN_SERVICE,),
    ),
    Route(
        method="GET",
        path="/v1/service/{service}/instances",
        operation_id="GetServiceInstances",
        tag="service",
        handler=get_service_instances,
        answer=ServiceInstances,
        query=InstancesQuery,
        body=NO_BODY,
        refusals=(ErrorType.UNKNOWN_SERVICE,),
    ),
)
