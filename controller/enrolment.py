"""Gives certificates to agents: to a host that shows a join token, and to an agent for the key it has."""

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from controller.core.audit import Actor, AuditEntry
from controller.core.enrolment import Applicant, Certificate, EnrolmentCode, EnrolmentRefusedError, Term
from controller.pki import (
    Authority,
    BadRequestError,
    hash_key,
    issue_for_agent,
    read_expired,
    read_link_certificate,
    read_request,
)
from releasehand.model import ActorKind, AuditAction, AuditOutcome
from shared.clock import Clock
from shared.enrolment import Join, Joined, RenewExpired
from shared.frames import Renewed
from shared.join_token import hash_secret
from shared.logs import get_log

log = get_log(__name__)


class EnrolmentStore(Protocol):
    """Where certificates are recorded; each call is durable and audited on return.

    Raises EnrolmentRefusedError, StoreUnavailableError."""

    async def join(
        self, secret_sha256: str, applicant: Applicant, term: Term, *, address: str
    ) -> Certificate: ...

    async def renew_certificate(
        self, serial: str, agent_id: str, applicant: Applicant, term: Term, *, address: str
    ) -> Certificate: ...

    async def audit(self, entry: AuditEntry) -> None: ...


@dataclass(frozen=True, slots=True)
class Granted:
    """A new certificate of a live link."""

    certificate: Certificate
    frame: Renewed


class Enrolment:
    """For the hub. Everything raises EnrolmentRefusedError or StoreUnavailableError, and is safe to repeat:
    an answer that was lost is given again, or costs one more certificate of the same key."""

    def __init__(self, store: EnrolmentStore, authority: Authority, life: timedelta, clock: Clock) -> None:
        """`authority` signs; agents are to trust it, and what counts beside it."""
        self._store, self._authority, self._clock = store, authority, clock
        self.trusted = authority.pem
        self.trust_sha256 = hashlib.sha256(authority.pem).hexdigest()
        self._term = Term(life, authority.ends_at, authority.key_hash)

    async def join(self, asked: Join, *, address: str) -> Joined:
        """Let a host join with its token."""
        try:
            request = await asyncio.to_thread(read_request, asked.csr)
        except BadRequestError as exc:
            raise await self._refuse(exc, AuditAction.JOIN, asked.agent_id, address) from exc
        applicant = Applicant(asked.agent_id, hash_key(request.key), request.names)
        secret_sha256 = hash_secret(asked.secret)
        given = await self._store.join(secret_sha256, applicant, self._term, address=address)
        log.info("agent joined", agent_id=given.agent_id, serial=given.serial, peer=address)
        return Joined(
            agent_id=given.agent_id,
            certificate=await self._sign(given, request.key),
            authorities=self.trusted.decode(),
        )

    async def renew(self, serial: str, agent_id: str, shown: bytes, *, address: str) -> Granted:
        """Renew the certificate with `serial`, on which a live link stands. TLS has seen the key of the one
        that was shown (DER) when the link began."""
        key = read_link_certificate(shown).key
        given = await self._renew(serial, agent_id, Applicant(agent_id, hash_key(key)), address)
        pem = await self._sign(given, key)
        return Granted(given, Renewed(certificate=pem, authorities=self.trusted.decode()))

    async def renew_expired(self, asked: RenewExpired, *, address: str) -> Joined:
        """Renew a certificate that TLS does not take any more, for the holder of its key."""
        try:
            expired = await asyncio.to_thread(read_expired, asked.certificate, self._authority.trusted)
            request = await asyncio.to_thread(read_request, asked.csr)
        except BadRequestError as exc:
            raise await self._refuse(exc, AuditAction.RENEW_CERTIFICATE, "", address) from exc
        applicant = Applicant(expired.agent_id, hash_key(request.key), request.names)
        given = await self._renew(expired.serial, expired.agent_id, applicant, address)
        return Joined(
            agent_id=given.agent_id,
            certificate=await self._sign(given, expired.key),
            authorities=self.trusted.decode(),
        )

    async def _renew(self, serial: str, agent_id: str, applicant: Applicant, address: str) -> Certificate:
        given = await self._store.renew_certificate(serial, agent_id, applicant, self._term, address=address)
        log.info("certificate was renewed", agent_id=agent_id, serial=given.serial, replaces=serial)
        return given

    async def _sign(self, certificate: Certificate, key: ec.EllipticCurvePublicKey) -> str:
        return await asyncio.to_thread(issue_for_agent, self._authority, certificate, key)

    async def _refuse(
        self, problem: BadRequestError, action: AuditAction, agent_id: str, address: str
    ) -> EnrolmentRefusedError:
        """Nothing that the store could judge was sent: it is recorded here."""
        code = EnrolmentCode.BAD_REQUEST
        entry = AuditEntry(
            self._clock.now(),
            Actor("", ActorKind.STRANGER, address),
            action,
            AuditOutcome.REFUSED,
            {"agent_id": agent_id},
            code.value,
            str(problem),
        )
        await self._store.audit(entry)
        return EnrolmentRefusedError(code, str(problem))
