"""The audit: who changed what, or tried to."""

from typing import Final

from releasehand.model import AuditList, Scope

from .list_query import AuditQuery
from .routing import NO_BODY, AnyRoute, Call, Route


async def list_audit(call: Call[None, AuditQuery]) -> AuditList:
    """List what was changed, what was refused and what failed, the newest first.

    A change is recorded in its own transaction: there is none without its record. Nothing here can be changed
    or removed. Calls with tokens that are not good are told once a minute and address, with their number."""
    return await call.deps.store.list_audit(call.query.wanted, call.query.page)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="GET",
        path="/v1/audit",
        operation_id="ListAudit",
        tag="token",
        handler=list_audit,
        answer=AuditList,
        query=AuditQuery,
        body=NO_BODY,
        scope=Scope.TOKEN_ADMIN,
    ),
)
