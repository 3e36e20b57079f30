"""Tokens of the API's callers: made, listed and revoked by those who may."""

from datetime import datetime, timedelta
from typing import Final

from controller.core.refusals import ForbiddenError
from controller.core.token import Grant, TokenExistsError
from releasehand.model import (
    AuditAction,
    CreateTokenParams,
    ErrorType,
    NewToken,
    Scope,
    Token,
    TokenList,
    format_time,
)

from .list_query import TokensQuery
from .query import Query
from .routing import NO_BODY, AnyRoute, Call, Route


async def create_token(call: Call[CreateTokenParams, Query]) -> NewToken:
    """Make a token. Its secret is in this answer and nowhere else: only a digest of it is kept.

    Nobody gives more than they have: each scope must be one of the caller's, a caller that is limited to some
    services gives no more than those, and one whose token ends none that is good for longer. A repeated call
    is refused: revoke the token whose answer was lost, and make another."""
    wanted = Grant(frozenset(call.body.scopes), frozenset(call.body.services))
    if not call.grant.covers(wanted):
        raise ForbiddenError(
            f"cannot make token '{call.body.name}': it would have scopes or services that token"
            f" '{call.caller.name}' has not itself"
        )
    if call.caller.ends_at is not None and _ends_later(call.body, call.caller.ends_at, call.deps.clock.now()):
        raise ForbiddenError(
            f"cannot make token '{call.body.name}': it would be good for longer than token"
            f" '{call.caller.name}', which ends at {format_time(call.caller.ends_at)}"
        )
    if call.body.name in call.deps.tokens:
        raise TokenExistsError(call.body.name, "the controller's configuration has a caller of that name")
    return await call.deps.store.create_token(call.body, actor=call.actor)


def _ends_later(wanted: CreateTokenParams, ends_at: datetime, now: datetime) -> bool:
    return not wanted.ttl or now + timedelta(seconds=wanted.ttl) > ends_at


async def list_tokens(call: Call[None, TokensQuery]) -> TokenList:
    """List tokens, the newest first, without their secrets. Those of the controller's configuration are not
    among them."""
    return await call.deps.store.list_tokens(call.query.status, call.query.page)


async def revoke_token(call: Call[None, Query]) -> Token:
    """Revoke a token: from now on every controller refuses it, and calls that it still has open end within
    seconds.

    A repeated call answers the first."""
    return await call.deps.store.revoke_token(call.name, actor=call.actor)


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/token",
        operation_id="CreateToken",
        tag="token",
        handler=create_token,
        answer=NewToken,
        query=Query,
        body=CreateTokenParams,
        scope=Scope.TOKEN_ADMIN,
        action=AuditAction.CREATE_TOKEN,
        refusals=(ErrorType.TOKEN_EXISTS,),
        example=CreateTokenParams(
            name="ci",
            scopes=[Scope.DEPLOY_READ, Scope.DEPLOY_WRITE],
            services=["user-service"],
            ttl=7_776_000,
        ),
    ),
    Route(
        method="GET",
        path="/v1/token",
        operation_id="ListTokens",
        tag="token",
        handler=list_tokens,
        answer=TokenList,
        query=TokensQuery,
        body=NO_BODY,
        scope=Scope.TOKEN_ADMIN,
    ),
    Route(
        method="DELETE",
        path="/v1/token/{name}",
        operation_id="RevokeToken",
        tag="token",
        handler=revoke_token,
        answer=Token,
        query=Query,
        body=NO_BODY,
        scope=Scope.TOKEN_ADMIN,
        action=AuditAction.REVOKE_TOKEN,
        refusals=(ErrorType.UNKNOWN_TOKEN,),
    ),
)
