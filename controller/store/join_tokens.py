"""Join tokens: made, listed, revoked and used. Their secrets are stored as digests alone."""

import secrets
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.enrolment import JoinToken
from controller.core.lists import Page
from controller.core.refusals import UnknownJoinTokenError
from releasehand.model import (
    DEFAULT_JOIN_TTL_S,
    JoinTokenList,
    JoinTokenParams,
    JoinTokenState,
    JoinTokenSummary,
)

from .access_tables import JOIN_TOKEN
from .engine import StaleMoveError

_NEWEST_FIRST: Final = select(JOIN_TOKEN).order_by(
    JOIN_TOKEN.c.created_at.desc(), JOIN_TOKEN.c.token_id.desc()
)


async def create(
    conn: AsyncConnection, params: JoinTokenParams, secret_sha256: str, *, created_by: str, now: datetime
) -> JoinTokenSummary:
    """Record a token whose secret only its holder knows."""
    row = {
        "token_id": f"join-{secrets.token_hex(6)}",
        "secret_sha256": secret_sha256,
        "host": params.host,
        "max_uses": params.max_uses or 1,
        "uses": 0,
        "created_by": created_by,
        "created_at": now,
        "expires_at": now + timedelta(seconds=params.ttl or DEFAULT_JOIN_TTL_S),
        "revoked_at": None,
    }
    await conn.execute(insert(JOIN_TOKEN), row)
    return _to_summary(row, now)


async def read(conn: AsyncConnection, page: Page, now: datetime) -> JoinTokenList:
    """Newest first."""
    total: int = (await conn.execute(select(func.count()).select_from(JOIN_TOKEN))).scalar_one()
    rows = (await conn.execute(_NEWEST_FIRST.limit(page.limit).offset(page.offset))).mappings()
    found = [_to_summary(dict(row), now) for row in rows]
    return JoinTokenList(join_tokens=found, total=total, limit=page.limit, offset=page.offset)


async def revoke(conn: AsyncConnection, token_id: str, now: datetime) -> JoinTokenSummary:
    """Nobody joins with it any more; who did stays. A repeated call answers the first. Raises
    UnknownJoinTokenError."""
    of_token = JOIN_TOKEN.c.token_id == token_id
    found = (await conn.execute(select(JOIN_TOKEN).where(of_token).with_for_update())).mappings().first()
    if found is None:
        raise UnknownJoinTokenError(token_id)
    row = dict(found)
    if row["revoked_at"] is None:
        await conn.execute(update(JOIN_TOKEN).where(of_token).values(revoked_at=now))
        row["revoked_at"] = now
    return _to_summary(row, now)


async def find(conn: AsyncConnection, secret_sha256: str) -> JoinToken | None:
    """The token with that secret, held for this transaction."""
    statement = select(JOIN_TOKEN).where(JOIN_TOKEN.c.secret_sha256 == secret_sha256).with_for_update()
    row = (await conn.execute(statement)).one_or_none()
    if row is None:
        return None
    return JoinToken(row.token_id, row.host, row.max_uses, row.uses, row.expires_at, row.revoked_at)


async def count_use(conn: AsyncConnection, token: JoinToken) -> None:
    """Raises StaleMoveError when somebody else used it meanwhile."""
    unchanged = (JOIN_TOKEN.c.token_id == token.token_id, JOIN_TOKEN.c.uses == token.uses)
    counted = await conn.execute(update(JOIN_TOKEN).where(*unchanged).values(uses=token.uses + 1))
    if counted.rowcount != 1:
        raise StaleMoveError(f"join token {token.token_id} was used")


def _to_summary(row: dict[str, Any], now: datetime) -> JoinTokenSummary:
    return JoinTokenSummary.model_validate(row | {"state": _state(row, now)})


def _state(row: dict[str, Any], now: datetime) -> JoinTokenState:
    if row["revoked_at"] is not None:
        return JoinTokenState.REVOKED
    if row["uses"] >= row["max_uses"]:
        return JoinTokenState.USED
    return JoinTokenState.EXPIRED if row["expires_at"] <= now else JoinTokenState.OPEN
