"""The release log of one operation: page by page, or as it grows."""

from typing import Final

from aiohttp import web

from releasehand.model import (
    ErrorType,
    OperationKind,
    ReleaseLog,
    Scope,
)

from .list_query import EventsQuery
from .reach import by_deployment, by_rollback
from .routing import NO_BODY, AnyRoute, Call, Route
from .stream import stream_log


async def get_deployment_events(call: Call[None, EventsQuery]) -> ReleaseLog:
    """Tell what happened in a deployment, event by event, in the order in which it was recorded.

    Every phase of every attempt begins and ends with an event. Ask on with `after` = `next_after` while
    there `has_more`. With `Accept: text/event-stream` the same comes as server-sent events while it
    happens: `id` is the event's, `event` its kind, `data` the event; `limit` means nothing then. After the
    last event of a deployment that has ended comes `end_of_log`. `Last-Event-ID` counts before `after`."""
    page = call.query.page(call.last_event_id)
    return await call.deps.store.release_log(OperationKind.DEPLOYMENT, call.name, page)


async def get_rollback_events(call: Call[None, EventsQuery]) -> ReleaseLog:
    """Tell what happened in a rollback, event by event, in the order in which it was recorded.

    All else as for a deployment."""
    page = call.query.page(call.last_event_id)
    return await call.deps.store.release_log(OperationKind.ROLLBACK, call.name, page)


async def stream_deployment(call: Call[None, EventsQuery], request: web.Request) -> web.StreamResponse:
    page = call.query.page(call.last_event_id)
    return await stream_log(call, request, OperationKind.DEPLOYMENT, page)


async def stream_rollback(call: Call[None, EventsQuery], request: web.Request) -> web.StreamResponse:
    page = call.query.page(call.last_event_id)
    return await stream_log(call, request, OperationKind.ROLLBACK, page)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/deployment/{deploy_id}/events",
        operation_id="GetDeploymentEvents",
        tag="deployment",
        handler=get_deployment_events,
        stream=stream_deployment,
        answer=ReleaseLog,
        query=EventsQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_deployment,
        refusals=(ErrorType.UNKNOWN_DEPLOYMENT, ErrorType.TOO_MANY_REQUESTS),
    ),
    Route(
        method="GET",
        path="/v1/rollback/{rollback_id}/events",
        operation_id="GetRollbackEvents",
        tag="rollback",
        handler=get_rollback_events,
        stream=stream_rollback,
        answer=ReleaseLog,
        query=EventsQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_rollback,
        refusals=(ErrorType.UNKNOWN_ROLLBACK, ErrorType.TOO_MANY_REQUESTS),
    ),
)
