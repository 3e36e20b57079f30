"""One instance: its history (spec: 接口参考 2.3), its end, and whose it is."""

from typing import Final

from releasehand.model import (
    AuditAction,
    ErrorType,
    MoveParams,
    MoveResult,
    RetireResult,
    Scope,
    VersionHistory,
)

from .query import DEFAULT_HISTORY_LIMIT, HistoryQuery, Query
from .reach import by_instance
from .routing import NO_BODY, AnyRoute, Call, Route


async def get_instance_version_history(call: Call[None, HistoryQuery]) -> VersionHistory:
    """Tell what was done to an instance's version, newest first, planned or not."""
    return await call.deps.store.version_history(
        call.name, limit=call.query.limit or DEFAULT_HISTORY_LIMIT, offset=call.query.offset
    )


async def retire_instance(call: Call[None, Query]) -> RetireResult:
    """Retire an instance: take it out of lists and figures.

    Its history stays; its open tasks fail `instance_retired`, and what its host is doing for them is stopped
    there if it still can be. Take it out of its agent's configuration first: an agent that lists it in its
    next hello brings it back. A repeated call answers the first."""
    result, changed = await call.deps.store.retire_instance(call.name, actor=call.actor)
    call.deps.tell(changed)
    return result


async def move_instance(call: Call[MoveParams, Query]) -> MoveResult:
    """Give an instance to another agent.

    Refused while a task of it is open. From now on the old owner's claim is refused; the instance is out of
    lists and figures until the new owner lists it. Both are asked to say hello again, where they are
    connected to this controller."""
    result, before = await call.deps.store.move_instance(call.name, call.body.agent_id, actor=call.actor)
    if result.moved_at is not None:
        call.deps.renew(before)
        call.deps.renew(result.agent_id)
    return result


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
        scope=Scope.DEPLOY_READ,
        reach=by_instance,
        refusals=(ErrorType.UNKNOWN_INSTANCE,),
    ),
    Route(
        method="DELETE",
        path="/v1/instance/{instance_id}",
        operation_id="RetireInstance",
        tag="instance",
        handler=retire_instance,
        answer=RetireResult,
        query=Query,
        body=NO_BODY,
        scope=Scope.AGENT_ADMIN,
        action=AuditAction.RETIRE_INSTANCE,
        refusals=(ErrorType.UNKNOWN_INSTANCE,),
    ),
    Route(
        method="POST",
        path="/v1/instance/{instance_id}/move",
        operation_id="MoveInstance",
        tag="instance",
        handler=move_instance,
        answer=MoveResult,
        query=Query,
        body=MoveParams,
        scope=Scope.AGENT_ADMIN,
        action=AuditAction.MOVE_INSTANCE,
        refusals=(ErrorType.UNKNOWN_INSTANCE, ErrorType.UNKNOWN_AGENT, ErrorType.INSTANCE_BUSY),
        example=MoveParams(agent_id="agent-2"),
    ),
)
