"""What runs where (spec: 接口参考 2.1–2.2)."""

from datetime import datetime
from typing import Final

from controller.core.written import Written
from releasehand.model import (
    ErrorType,
    FieldError,
    Scope,
    ServiceInstances,
    ServiceVersions,
    format_time,
)

from .deps import ApiDeps
from .errors import invalid
from .query import DEFAULT_LIMIT, InstancesQuery, VersionsQuery
from .reach import by_path
from .routing import NO_BODY, AnyRoute, Call, Route


async def get_service_instance_versions(
    call: Call[None, VersionsQuery],
) -> ServiceVersions | Written[ServiceVersions]:
    """Tell which version each instance of a service runs, and how many run each.

    With `at` it is told what ran at that time, from the version history alone: an instance with something
    installed counts as `running`, one without as `stopped`, and none as `error`. Those are listed that had an
    entry in their history by then, were not retired by then and were of this service then."""
    at, include_stopped = call.query.at, call.query.include_stopped
    if at is None:
        return await call.deps.store.service_versions(call.name, include_stopped=include_stopped)
    _check_kept(at, call.deps)
    return await call.deps.store.service_versions_at(call.name, at, include_stopped=include_stopped)


def _check_kept(at: datetime, deps: ApiDeps) -> None:
    """Raises ApiError for a time of which the history is no longer whole."""
    if deps.history_kept is None:
        return
    since = deps.clock.now() - deps.history_kept
    if at < since:
        raise invalid([FieldError(pointer="at", detail=f"history is kept from {format_time(since)} on")])


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
        scope=Scope.DEPLOY_READ,
        reach=by_path,
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
        scope=Scope.DEPLOY_READ,
        reach=by_path,
        refusals=(ErrorType.UNKNOWN_SERVICE,),
    ),
)
