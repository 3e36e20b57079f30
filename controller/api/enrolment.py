"""Join tokens, and the end of an agent's certificates."""

from typing import Final

from controller.core.refusals import StoreUnavailableError
from releasehand.model import (
    AuditAction,
    ErrorType,
    JoinTokenList,
    JoinTokenParams,
    JoinTokenResult,
    JoinTokenSummary,
    RevokeAgentParams,
    RevokeAgentResult,
    Scope,
)
from shared.logs import get_log

from .list_query import PageQuery
from .query import Query
from .routing import NO_BODY, AnyRoute, Call, Route

log = get_log(__name__)


async def create_join_token(call: Call[JoinTokenParams, Query]) -> JoinTokenResult:
    """Make a join token. It is in this answer and nowhere else, with the command that uses it on the host.

    A token for a `host` lets the agent of that name in, once; if it has joined before, what it had is revoked
    then. A token without one lets `max_uses` agents in whose names are new. A repeated call makes another
    token."""
    return await call.deps.invitations.create(call.body, actor=call.actor)


async def list_join_tokens(call: Call[None, PageQuery]) -> JoinTokenList:
    """List join tokens, the newest first, without their secrets."""
    return await call.deps.store.list_join_tokens(call.query.page)


async def revoke_join_token(call: Call[None, Query]) -> JoinTokenSummary:
    """Revoke a join token: nobody joins with it any more; agents that did stay.

    A repeated call answers the first."""
    return await call.deps.store.revoke_join_token(call.name, actor=call.actor)


async def revoke_agent(call: Call[RevokeAgentParams, Query]) -> RevokeAgentResult:
    """Shut an agent out: no certificate of it counts any more. Its link is closed at once, on other
    controllers within seconds.

    What runs on its host goes on running. A join token for the host lets it back in. A repeated call tells
    when it was shut out first."""
    result = await call.deps.store.revoke_agent(call.name, call.body.reason, actor=call.actor)
    try:
        await call.deps.close_revoked()
    except StoreUnavailableError as exc:  # it is recorded, and looked for again every two seconds
        log.warning("revoked links are closed later", agent_id=call.name, reason=str(exc))
    return result


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/join-token",
        operation_id="CreateJoinToken",
        tag="agent",
        handler=create_join_token,
        answer=JoinTokenResult,
        query=Query,
        body=JoinTokenParams,
        body_required=False,
        scope=Scope.AGENT_ADMIN,
        action=AuditAction.CREATE_JOIN_TOKEN,
        example=JoinTokenParams(host="web-1", ttl=3_600),
    ),
    Route(
        method="GET",
        path="/v1/join-token",
        operation_id="ListJoinTokens",
        tag="agent",
        handler=list_join_tokens,
        answer=JoinTokenList,
        query=PageQuery,
        body=NO_BODY,
        scope=Scope.AGENT_ADMIN,
    ),
    Route(
        method="DELETE",
        path="/v1/join-token/{token_id}",
        operation_id="RevokeJoinToken",
        tag="agent",
        handler=revoke_join_token,
        answer=JoinTokenSummary,
        query=Query,
        body=NO_BODY,
        scope=Scope.AGENT_ADMIN,
        action=AuditAction.REVOKE_JOIN_TOKEN,
        refusals=(ErrorType.UNKNOWN_JOIN_TOKEN,),
    ),
    Route(
        method="POST",
        path="/v1/agent/{agent_id}/revoke",
        operation_id="RevokeAgent",
        tag="agent",
        handler=revoke_agent,
        answer=RevokeAgentResult,
        query=Query,
        body=RevokeAgentParams,
        body_required=False,
        scope=Scope.AGENT_ADMIN,
        action=AuditAction.REVOKE_AGENT,
        refusals=(ErrorType.UNKNOWN_AGENT,),
        example=RevokeAgentParams(reason="the host was sold"),
    ),
)
