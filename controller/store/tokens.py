"""Tokens of the API's callers. What is kept of one is its digest: nothing here can be used."""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from sqlalchemy import ColumnElement, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import Actor, AuditEntry
from controller.core.lists import Page
from controller.core.token import Grant, KnownToken, TokenExistsError, UnknownTokenError, judge
from releasehand.model import AuditAction, CreateTokenParams, Scope, Token, TokenList, TokenStatus

from . import audit
from .access_tables import API_TOKEN

USE_KEPT: Final = timedelta(minutes=1)
"""The last use of a token is written at most so often."""
_KNOWN: Final = select(
    API_TOKEN.c.token_id,
    API_TOKEN.c.name,
    API_TOKEN.c.scopes,
    API_TOKEN.c.services,
    API_TOKEN.c.expires_at,
    API_TOKEN.c.revoked_at,
)


async def find(conn: AsyncConnection, digest: str) -> KnownToken | None:
    """The token with this digest, whether or not it is in force."""
    row = (await conn.execute(_KNOWN.where(API_TOKEN.c.token_sha256 == digest))).one_or_none()
    if row is None:
        return None
    known = frozenset(Scope(word) for word in row.scopes if word in set(Scope))
    grant = Grant(known, frozenset(row.services))
    return KnownToken(row.token_id, row.name, grant, row.expires_at, row.revoked_at)


async def find_in_force(conn: AsyncConnection, token_ids: Collection[str], now: datetime) -> set[str]:
    """Those of `token_ids` that may still be used."""
    statement = select(API_TOKEN.c.token_id).where(API_TOKEN.c.token_id.in_(token_ids), *_in_force(now))
    return set((await conn.execute(statement)).scalars())


async def create(
    conn: AsyncConnection, params: CreateTokenParams, digest: str, *, actor: Actor, now: datetime
) -> Token:
    """Add a token; one of the same name that has expired is revoked with it. Raises TokenExistsError."""
    held = (
        await conn.execute(
            select(API_TOKEN.c.token_id, API_TOKEN.c.expires_at)
            .where(API_TOKEN.c.name == params.name, API_TOKEN.c.revoked_at.is_(None))
            .with_for_update()
        )
    ).one_or_none()
    if held is not None:
        if judge(held.expires_at, None, now) is TokenStatus.IN_FORCE:
            raise TokenExistsError(params.name)
        await _revoke(conn, held.token_id, now)
    row: dict[str, Any] = {
        "token_id": uuid4().hex,
        "name": params.name,
        "token_sha256": digest,
        "scopes": [scope.value for scope in params.scopes],
        "services": sorted(params.services),
        "created_by": actor.name,
        "created_at": now,
        "expires_at": now + timedelta(seconds=params.ttl) if params.ttl else None,
        "last_used_at": None,
        "last_used_from": "",
        "revoked_at": None,
    }
    await conn.execute(insert(API_TOKEN), row)
    objects = {"name": params.name, "scopes": row["scopes"], "services": row["services"], "ttl": params.ttl}
    await audit.record(conn, AuditEntry(now, actor, AuditAction.CREATE_TOKEN, objects=objects))
    return to_token(row, now)


async def revoke(conn: AsyncConnection, name: str, *, actor: Actor, now: datetime) -> Token:
    """Take the newest token of that name out of force; a repeated call answers the first. Raises
    UnknownTokenError."""
    of_name = select(API_TOKEN).where(API_TOKEN.c.name == name)
    in_force_first = of_name.order_by(API_TOKEN.c.revoked_at.is_not(None), API_TOKEN.c.created_at.desc())
    row = (await conn.execute(in_force_first.limit(1).with_for_update())).mappings().one_or_none()
    if row is None:
        raise UnknownTokenError(name)
    if row["revoked_at"] is not None:
        return to_token(dict(row), now)
    await _revoke(conn, row["token_id"], now)
    await audit.record(conn, AuditEntry(now, actor, AuditAction.REVOKE_TOKEN, objects={"name": name}))
    return to_token(dict(row) | {"revoked_at": now}, now)


async def _revoke(conn: AsyncConnection, token_id: str, now: datetime) -> None:
    await conn.execute(update(API_TOKEN).where(API_TOKEN.c.token_id == token_id).values(revoked_at=now))


async def read(conn: AsyncConnection, status: TokenStatus | None, page: Page, now: datetime) -> TokenList:
    """Newest first."""
    conditions: dict[TokenStatus | None, list[ColumnElement[bool]]] = {
        None: [],
        TokenStatus.IN_FORCE: _in_force(now),
        TokenStatus.EXPIRED: [API_TOKEN.c.revoked_at.is_(None), API_TOKEN.c.expires_at <= now],
        TokenStatus.REVOKED: [API_TOKEN.c.revoked_at.is_not(None)],
    }
    counted = select(func.count()).select_from(API_TOKEN).where(*conditions[status])
    total: int = (await conn.execute(counted)).scalar_one()
    listed = select(API_TOKEN).where(*conditions[status])
    newest_first = listed.order_by(API_TOKEN.c.created_at.desc(), API_TOKEN.c.name, API_TOKEN.c.token_id)
    rows = (await conn.execute(newest_first.limit(page.limit).offset(page.offset))).mappings()
    tokens = [to_token(dict(row), now) for row in rows]
    return TokenList(tokens=tokens, total=total, limit=page.limit, offset=page.offset)


async def note_uses(conn: AsyncConnection, uses: Mapping[str, tuple[datetime, str]]) -> None:
    """Write when and from where tokens were used last. What another controller wrote a moment ago stays."""
    for token_id, (at, address) in uses.items():
        stale = or_(API_TOKEN.c.last_used_at.is_(None), API_TOKEN.c.last_used_at <= at - USE_KEPT)
        use = update(API_TOKEN).where(API_TOKEN.c.token_id == token_id, stale)
        await conn.execute(use.values(last_used_at=at, last_used_from=address))


async def any_in_force(conn: AsyncConnection, now: datetime) -> bool:
    """Whether anybody could call with a token that was made here."""
    statement = select(API_TOKEN.c.token_id).where(*_in_force(now)).limit(1)
    return (await conn.execute(statement)).first() is not None


def to_token(row: Mapping[str, Any], now: datetime) -> Token:
    """Without id and digest."""
    return Token.model_validate({**row, "status": judge(row["expires_at"], row["revoked_at"], now)})


def _in_force(now: datetime) -> list[ColumnElement[bool]]:
    unexpired = or_(API_TOKEN.c.expires_at.is_(None), API_TOKEN.c.expires_at > now)
    return [API_TOKEN.c.revoked_at.is_(None), unexpired]
