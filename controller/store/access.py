"""Who may do what, and what was done: each method is one look or one transaction."""

import secrets
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import Actor, AuditEntry, AuditFilter
from controller.core.lists import Page
from controller.core.token import SECRET_BYTES, KnownToken, digest_of, make_token
from releasehand.model import AuditList, CreateTokenParams, NewToken, Token, TokenList, TokenStatus

from . import audit, tokens
from .transactions import Transactions


class Access(Transactions):
    """Tokens of callers, and the audit."""

    async def find_token(self, digest: str) -> KnownToken | None:
        """The token with this digest, whether or not it is in force."""
        return await self._read(lambda conn: tokens.find(conn, digest))

    async def find_tokens_in_force(self, token_ids: Collection[str]) -> set[str]:
        """Those of `token_ids` that may still be used."""
        return await self._read(lambda conn: tokens.find_in_force(conn, token_ids, self._clock.now()))

    async def create_token(self, params: CreateTokenParams, *, actor: Actor) -> NewToken:
        """Make a token; its secret is in the answer and nowhere else. Raises TokenExistsError."""
        token = make_token(secrets.token_bytes(SECRET_BYTES))
        made = await self._write(
            lambda conn, now: tokens.create(conn, params, digest_of(token), actor=actor, now=now), "token"
        )
        return NewToken(token=token, **made.model_dump())

    async def revoke_token(self, name: str, *, actor: Actor) -> Token:
        """Out of force on return, for every controller on this database; a repeated call answers the first.
        Raises UnknownTokenError."""
        return await self._write(
            lambda conn, now: tokens.revoke(conn, name, actor=actor, now=now), "revocation"
        )

    async def list_tokens(self, status: TokenStatus | None, page: Page) -> TokenList:
        """Newest first."""
        return await self._read(lambda conn: tokens.read(conn, status, page, self._clock.now()))

    async def has_tokens(self) -> bool:
        """Whether any token is in force."""
        return await self._read(lambda conn: tokens.any_in_force(conn, self._clock.now()))

    async def note_access(
        self, uses: Mapping[str, tuple[datetime, str]], entries: Sequence[AuditEntry]
    ) -> None:
        """Write the last uses of tokens, by token id with address, and what strangers tried."""

        async def write(conn: AsyncConnection, _now: datetime) -> None:
            await tokens.note_uses(conn, uses)
            for entry in entries:
                await audit.record(conn, entry)

        await self._write(write, "uses")

    async def audit(self, entry: AuditEntry) -> None:
        """Record what was refused or failed, in a transaction of its own. Durable on return."""
        await self._write(lambda conn, _now: audit.record(conn, entry), "audit")

    async def list_audit(self, wanted: AuditFilter, page: Page) -> AuditList:
        """Newest first."""
        return await self._read(lambda conn: audit.read(conn, wanted, page))
