"""Certificates that agents were given. What has no row, or a revoked one, opens no link."""

from dataclasses import replace
from datetime import datetime

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.enrolment import Certificate
from controller.core.refusals import UnknownAgentError
from releasehand.model import RevokeAgentResult

from .access_tables import CERTIFICATE
from .tables import AGENT

_CERTIFICATE = select(
    CERTIFICATE.c.serial,
    CERTIFICATE.c.agent_id,
    CERTIFICATE.c.key_sha256,
    CERTIFICATE.c.issued_at,
    CERTIFICATE.c.not_after,
    CERTIFICATE.c.authority,
    CERTIFICATE.c.revoked_at,
)


async def find(conn: AsyncConnection, serial: str) -> Certificate | None:
    """The certificate with this serial; in a write transaction nobody can revoke it meanwhile."""
    row = (await conn.execute(_CERTIFICATE.where(CERTIFICATE.c.serial == serial))).one_or_none()
    return Certificate(*row) if row else None


async def find_reason(conn: AsyncConnection, serial: str) -> str:
    """Why the certificate with this serial was revoked; "" when it was not, or nobody said."""
    row = (await conn.execute(select(CERTIFICATE.c.reason).where(CERTIFICATE.c.serial == serial))).first()
    return str(row[0]) if row else ""


async def find_given(
    conn: AsyncConnection, token_id: str, agent_id: str, key_sha256: str
) -> Certificate | None:
    """The newest that this join token brought the agent with this key."""
    same = (
        CERTIFICATE.c.join_token == token_id,
        CERTIFICATE.c.agent_id == agent_id,
        CERTIFICATE.c.key_sha256 == key_sha256,
    )
    newest_first = CERTIFICATE.c.issued_at.desc()
    row = (await conn.execute(_CERTIFICATE.where(*same).order_by(newest_first).limit(1))).one_or_none()
    return Certificate(*row) if row else None


async def is_known(conn: AsyncConnection, agent_id: str) -> bool:
    """Whether the agent was ever given one."""
    of_agent = select(CERTIFICATE.c.serial).where(CERTIFICATE.c.agent_id == agent_id).limit(1)
    return (await conn.execute(of_agent)).first() is not None


async def add(conn: AsyncConnection, certificate: Certificate, *, join_token: str | None) -> None:
    """Record one before it is given out. `join_token` is None for a renewed one."""
    row = {
        "serial": certificate.serial,
        "agent_id": certificate.agent_id,
        "key_sha256": certificate.key_sha256,
        "join_token": join_token,
        "issued_at": certificate.issued_at,
        "not_after": certificate.not_after,
        "authority": certificate.authority,
        "revoked_at": None,
        "reason": "",
    }
    await conn.execute(insert(CERTIFICATE), row)


async def revoke_all(conn: AsyncConnection, agent_id: str, reason: str, now: datetime) -> int:
    """Revoke every certificate of an agent, also those that may still be renewed; how many there were."""
    in_force = (CERTIFICATE.c.agent_id == agent_id, CERTIFICATE.c.revoked_at.is_(None))
    changed = await conn.execute(update(CERTIFICATE).where(*in_force).values(revoked_at=now, reason=reason))
    return changed.rowcount


async def revoke_agent(conn: AsyncConnection, agent_id: str, reason: str, now: datetime) -> RevokeAgentResult:
    """The same, as people ask for it; a repeated call tells the time of the first. Raises
    UnknownAgentError."""
    count = await revoke_all(conn, agent_id, reason, now)
    of_agent = select(func.max(CERTIFICATE.c.revoked_at)).where(CERTIFICATE.c.agent_id == agent_id)
    revoked_at: datetime | None = (await conn.execute(of_agent)).scalar_one()
    if revoked_at is None:
        known = await conn.execute(select(AGENT.c.agent_id).where(AGENT.c.agent_id == agent_id))
        if known.first() is None:
            raise UnknownAgentError(agent_id)
    return RevokeAgentResult(agent_id=agent_id, revoked_certificates=count, revoked_at=revoked_at or now)


async def read_revoked(conn: AsyncConnection, now: datetime) -> frozenset[str]:
    """The serials that are revoked and have not ended: what a live link may be running on."""
    statement = select(CERTIFICATE.c.serial).where(
        CERTIFICATE.c.revoked_at.is_not(None), CERTIFICATE.c.not_after > now
    )
    return frozenset((await conn.execute(statement)).scalars())


async def find_without(conn: AsyncConnection, authority: str, now: datetime) -> list[str]:
    """Agents that may still open a link, by no certificate that this authority signed; by id."""
    in_force = (CERTIFICATE.c.revoked_at.is_(None), CERTIFICATE.c.not_after > now)
    of_authority = select(CERTIFICATE.c.agent_id).where(*in_force, CERTIFICATE.c.authority == authority)
    others = select(CERTIFICATE.c.agent_id).where(*in_force).except_(of_authority).subquery()
    return list((await conn.execute(select(others.c.agent_id).order_by(others.c.agent_id))).scalars())


async def sign_anew(conn: AsyncConnection, certificate: Certificate, authority: str) -> Certificate:
    """The same certificate, recorded as signed by this authority: it is given out once more."""
    if certificate.authority != authority:
        row = CERTIFICATE.c.serial == certificate.serial
        await conn.execute(update(CERTIFICATE).where(row).values(authority=authority))
    return replace(certificate, authority=authority)
