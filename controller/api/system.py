"""How the system does (spec: 接口参考 4.1–4.2)."""

from typing import Final

from releasehand.model import (
    ErrorType,
    HealthStatus,
    Scope,
    SystemHealth,
    SystemStats,
)

from .errors import ApiError
from .query import Query, StatsQuery
from .reach import everything
from .routing import NO_BODY, AnyRoute, Call, Route


async def get_system_health(call: Call[None, Query]) -> SystemHealth:
    """Tell whether the controller can do its work.

    Asks for no token: load balancers cannot carry one, and the answer names nothing of the fleet. An
    unhealthy controller answers 503 with the same body in `data`; a degraded one still works and answers
    200."""
    health = await call.deps.health()
    if health.status is HealthStatus.UNHEALTHY:
        causes = "; ".join(health.causes) or "no cause is known"
        raise ApiError(ErrorType.UNHEALTHY, f"the controller is unhealthy: {causes}", data=health)
    return health


async def get_system_stats(call: Call[None, StatsQuery]) -> SystemStats:
    """Count the operations that ended in the period, the instances as they are now, and reports that changed
    nothing."""
    stats = await call.deps.store.system_stats(call.query.period)
    return stats.model_copy(update={"reports": stats.reports.model_copy(update=dict(call.deps.dropped))})


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/system/health",
        operation_id="GetSystemHealth",
        tag="system",
        handler=get_system_health,
        answer=SystemHealth,
        query=Query,
        body=NO_BODY,
        scope=None,
        refusals=(ErrorType.UNHEALTHY,),
    ),
    Route(
        method="GET",
        path="/v1/system/stats",
        operation_id="GetSystemStats",
        tag="system",
        handler=get_system_stats,
        answer=SystemStats,
        query=StatsQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=everything,
    ),
)
