"""The history of one instance (spec: 接口参考 2.3)."""

from typing import Final

from releasehand.model import ErrorType, VersionHistory

from .query import DEFAULT_HISTORY_LIMIT, HistoryQuery
from .routing import NO_BODY, AnyRoute, Call, Route


async def get_instance_version_history(call: Call[None, HistoryQuery]) -> VersionHistory:
    """Tell what was done to an instance's version, newest first, planned or not."""
    return await call.deps.store.version_history(
        call.name, limit=call.query.limit or DEFAULT_HISTORY_LIMIT, offset=call.query.offset
    )


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/instance/{instance_id}/version-history",
        operation_id="GetInstanceVersionHistory",
        tag="instance",
        handler=get_instance_version_history,
        answer=VersionHistory,
        query=HistoryQuery,
        body=NO_BODY,
        refusals=(ErrorType.UNKNOWN_INSTANCE,),
    ),
)
