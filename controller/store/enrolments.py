"""Certificates and join tokens as others ask for them: each is one transaction, with its line in the
audit."""

import secrets
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.audit import Actor, AuditEntry, Objects
from controller.core.enrolment import (
    Applicant,
    Certificate,
    EnrolmentRefusedError,
    Term,
    admit,
    check_departure,
    check_renewal,
    name_applicant,
)
from controller.core.lists import Page
from releasehand.model import (
    ActorKind,
    AuditAction,
    AuditOutcome,
    JoinTokenList,
    JoinTokenParams,
    JoinTokenSummary,
    RevokeAgentResult,
)

from . import audit, certificates, join_tokens, moves, ownership
from .transactions import Transactions

SERIAL_BITS: Final = 159  # RFC 5280, 4.1.2.2: at most 20 bytes, and positive
JOINED_AGAIN: Final = "the agent joined again"
LEFT: Final = "the agent left"

T = TypeVar("T")


class Enrolments(Transactions):
    """Who may open a link."""

    async def create_join_token(
        self, params: JoinTokenParams, secret_sha256: str, *, actor: Actor
    ) -> JoinTokenSummary:
        """Recorded on return."""

        async def create(conn: AsyncConnection, now: datetime) -> JoinTokenSummary:
            made = await join_tokens.create(conn, params, secret_sha256, created_by=actor.name, now=now)
            objects: Objects = {"join_token": made.token_id, "host": made.host, "max_uses": made.max_uses}
            await audit.record(conn, AuditEntry(now, actor, AuditAction.CREATE_JOIN_TOKEN, objects=objects))
            return made

        return await self._write(create, "join-token")

    async def list_join_tokens(self, page: Page) -> JoinTokenList:
        """Newest first."""
        return await self._read(lambda conn: join_tokens.read(conn, page, self._clock.now()))

    async def revoke_join_token(self, token_id: str, *, actor: Actor) -> JoinTokenSummary:
        """Recorded on return. Raises UnknownJoinTokenError."""

        async def revoke(conn: AsyncConnection, now: datetime) -> JoinTokenSummary:
            revoked = await join_tokens.revoke(conn, token_id, now)
            objects: Objects = {"join_token": token_id, "host": revoked.host}
            await audit.record(conn, AuditEntry(now, actor, AuditAction.REVOKE_JOIN_TOKEN, objects=objects))
            return revoked

        return await self._write(revoke, "join-token")

    async def revoke_agent(self, agent_id: str, reason: str, *, actor: Actor) -> RevokeAgentResult:
        """No certificate of the agent counts any more, here and on every other controller. Raises
        UnknownAgentError."""

        async def revoke(conn: AsyncConnection, now: datetime) -> RevokeAgentResult:
            result = await certificates.revoke_agent(conn, agent_id, reason, now)
            objects: Objects = {"agent_id": agent_id, "certificates": result.revoked_certificates}
            entry = AuditEntry(now, actor, AuditAction.REVOKE_AGENT, objects=objects, message=reason)
            await audit.record(conn, entry)
            return result

        return await self._write(revoke, "revoke")

    async def find_agents_without(self, authority: str) -> list[str]:
        """Agents that have a certificate in force, and none that the authority with this key hash signed; by
        id."""
        return await self._read(lambda conn: certificates.find_without(conn, authority, self._clock.now()))

    async def revoked_serials(self) -> frozenset[str]:
        """Of certificates that have not ended."""
        return await self._read(lambda conn: certificates.read_revoked(conn, self._clock.now()))

    async def join(
        self, secret_sha256: str, applicant: Applicant, term: Term, *, address: str
    ) -> Certificate:
        """The certificate that the holder of a join token is given, recorded on return.

        The same token and key get the same certificate again. An agent that joins anew loses those that it
        had. Raises EnrolmentRefusedError, which is in the audit then."""

        async def join(conn: AsyncConnection, now: datetime) -> Certificate:
            token = await join_tokens.find(conn, secret_sha256)
            agent_id = name_applicant(token, applicant)
            objects: dict[str, str | int] = {"agent_id": agent_id}
            given = None
            if token is not None:
                objects["join_token"] = token.token_id
                given = await certificates.find_given(conn, token.token_id, agent_id, applicant.key_sha256)
            known = await certificates.is_known(conn, agent_id)
            try:
                admission = admit(token, applicant, given=given, known=known, now=now)
            except EnrolmentRefusedError as exc:
                raise _Refused(exc, objects, now) from exc
            assert token is not None, "nobody is admitted without one"
            if admission.replaces:
                objects["replaced"] = await certificates.revoke_all(conn, agent_id, JOINED_AGAIN, now)
            certificate = admission.again
            if certificate is None:
                certificate = term.certificate(_new_serial(), agent_id, applicant.key_sha256, now)
                await join_tokens.count_use(conn, token)
                await certificates.add(conn, certificate, join_token=token.token_id)
            else:
                certificate = await certificates.sign_anew(conn, certificate, term.authority)
            actor = Actor(agent_id, ActorKind.AGENT, address)
            objects["serial"] = certificate.serial
            await audit.record(conn, AuditEntry(now, actor, AuditAction.JOIN, objects=objects))
            return certificate

        stranger = Actor("", ActorKind.STRANGER, address)
        return await self._audited(join, stranger, AuditAction.JOIN, "join")

    async def enrol(self, agent_id: str, key_sha256: str, term: Term, *, actor: Actor) -> Certificate:
        """The certificate of an agent that `actor` lets in without a join token, recorded on return. It loses
        those that it had."""

        async def enrol(conn: AsyncConnection, now: datetime) -> Certificate:
            replaced = await certificates.revoke_all(conn, agent_id, JOINED_AGAIN, now)
            certificate = term.certificate(_new_serial(), agent_id, key_sha256, now)
            await certificates.add(conn, certificate, join_token=None)
            objects: Objects = {"agent_id": agent_id, "serial": certificate.serial, "replaced": replaced}
            await audit.record(conn, AuditEntry(now, actor, AuditAction.JOIN, objects=objects))
            return certificate

        return await self._write(enrol, "join")

    async def renew_certificate(
        self, serial: str, agent_id: str, applicant: Applicant, term: Term, *, address: str
    ) -> Certificate:
        """A new certificate for the key of the one with `serial`, recorded on return; the old one stays in
        force. Raises EnrolmentRefusedError, which is in the audit then."""

        async def renew(conn: AsyncConnection, now: datetime) -> Certificate:
            objects: dict[str, str | int] = {"agent_id": agent_id, "replaces": serial}
            old = await certificates.find(conn, serial)
            try:
                check_renewal(old, agent_id, applicant, now)
            except EnrolmentRefusedError as exc:
                raise _Refused(exc, objects, now) from exc
            certificate = term.certificate(_new_serial(), agent_id, applicant.key_sha256, now)
            await certificates.add(conn, certificate, join_token=None)
            objects["serial"] = certificate.serial
            await audit.record(conn, AuditEntry(now, actor, AuditAction.RENEW_CERTIFICATE, objects=objects))
            return certificate

        actor = Actor(agent_id, ActorKind.AGENT, address)
        return await self._audited(renew, actor, AuditAction.RENEW_CERTIFICATE, "renew")

    async def leave(
        self, serial: str, agent_id: str, key_sha256: str, *, address: str
    ) -> tuple[int, moves.Changed]:
        """Let an agent go that has shown this key for its certificate with `serial`: nothing of it counts any
        more on return, and its instances are anybody's. How many those were; a repeated call changes
        nothing. Raises EnrolmentRefusedError, which is in the audit then."""

        async def leave(conn: AsyncConnection, now: datetime) -> tuple[int, moves.Changed]:
            objects: dict[str, str | int] = {"agent_id": agent_id, "serial": serial}
            shown = await certificates.find(conn, serial)
            left = await certificates.find_reason(conn, serial) == LEFT
            try:
                if not check_departure(shown, agent_id, key_sha256, left=left):
                    return 0, moves.Changed()
            except EnrolmentRefusedError as exc:
                raise _Refused(exc, objects, now) from exc
            objects["certificates"] = await certificates.revoke_all(conn, agent_id, LEFT, now)
            released, changed = await ownership.release_all(conn, agent_id, now)
            objects["instance_count"] = released
            await audit.record(conn, AuditEntry(now, actor, AuditAction.LEAVE, objects=objects))
            return released, changed

        actor = Actor(agent_id, ActorKind.AGENT, address)
        return await self._audited(leave, actor, AuditAction.LEAVE, "leave")

    async def _audited(
        self,
        change: Callable[[AsyncConnection, datetime], Awaitable[T]],
        actor: Actor,
        action: AuditAction,
        point: str,
    ) -> T:
        """Write what was refused into the audit before anybody hears of it."""
        try:
            return await self._write(change, point)
        except _Refused as refused:
            entry = AuditEntry(
                refused.at,
                actor,
                action,
                AuditOutcome.REFUSED,
                refused.objects,
                refused.error.code.value,
                str(refused.error),
            )
            await self._write(lambda conn, _now: audit.record(conn, entry), "audit")
            raise refused.error from None


class _Refused(Exception):  # noqa: N818 - never leaves this file
    """A transaction that is undone, and what is to be recorded of it."""

    def __init__(self, error: EnrolmentRefusedError, objects: Objects, at: datetime) -> None:
        self.error, self.objects, self.at = error, objects, at
        super().__init__(str(error))


def _new_serial() -> str:
    """Lower-case hexadecimal without leading zeros, as certificates' serials are written everywhere here."""
    return f"{secrets.randbits(SERIAL_BITS) | 1:x}"
