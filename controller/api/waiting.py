"""`?wait=`: answer a status call when its operation has ended, or when the time is over."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from controller.core.acceptance import InstancePage
from controller.core.written import Written
from releasehand.model import OPEN, DeployStatus, ErrorType, OperationKind, RollbackStatus

from .deps import ApiDeps
from .errors import ApiError
from .query import DEFAULT_LIMIT, StatusQuery, wait_seconds
from .routing import Call

RECHECK_S: Final = 5.0
"""Rows are read again so often without news: a lost notice costs seconds, never truth (DESIGN «Storage»)."""
PAUSE_S: Final = 0.2
"""Between two readings of one waiter: a busy operation changes many times a second."""
_PROBE: Final = InstancePage(limit=1)


StatusT = TypeVar("StatusT", DeployStatus, RollbackStatus)


def page_of(query: StatusQuery) -> InstancePage:
    """All instances, unless the query asks for a part of them; a limit of 0 is the usual page."""
    limit = query.instance_limit
    return InstancePage(
        limit=DEFAULT_LIMIT if limit == 0 else limit,
        offset=query.instance_offset or 0,
        status=query.instance_status,
    )


async def read_status(
    call: Call[None, StatusQuery],
    kind: OperationKind,
    read: Callable[[str, InstancePage], Awaitable[Written[StatusT]]],
) -> Written[StatusT]:
    """The status at the end of the wait. Raises what `read` raises, and ApiError when too many wait already
    or the caller's token ends meanwhile.

    Safe to cancel."""
    deps, wait_s = call.deps, wait_seconds(call.query.wait)
    if wait_s > 0:
        if len(deps.bulletin) - len(deps.streams) >= deps.max_waiters:
            raise ApiError(
                ErrorType.TOO_MANY_REQUESTS,
                f"cannot wait: {deps.max_waiters} calls are waiting already; ask without wait, or later",
            )
        async with deps.leases.hold(call.caller.token_id):
            await _wait_for_end(deps, kind, call.name, wait_s, read)
    return await read(call.name, page_of(call.query))


async def _wait_for_end(
    deps: ApiDeps,
    kind: OperationKind,
    operation_id: str,
    wait_s: float,
    read: Callable[[str, InstancePage], Awaitable[Written[StatusT]]],
) -> None:
    deadline = deps.clock.monotonic() + wait_s
    with deps.bulletin.subscribe(kind, operation_id) as news:
        while (await read(operation_id, _PROBE)).answer.status in OPEN and not deps.bulletin.closed:
            left_s = deadline - deps.clock.monotonic()
            if left_s <= 0:
                return
            if await news.wait(min(left_s, RECHECK_S)) and not deps.bulletin.closed:
                await deps.clock.sleep(max(0.0, min(PAUSE_S, deadline - deps.clock.monotonic())))
