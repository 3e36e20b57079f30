"""Keeps this agent's certificate young: over its live link while it is in force, and on a connection of its
own when it has ended."""

import asyncio
import ssl
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from agent.core.renewal import TRUST_SPREAD_S, renewal_due, retry_after_s
from agent.enrolment import ask
from agent.identity import Expected, Membership, read_membership
from shared.clock import Clock
from shared.enrolment import RENEW_PATH, RenewExpired
from shared.frames import Renewed
from shared.identity_folder import IdentityFolder
from shared.logs import get_log
from shared.tls import authority_context

LONGEST_SLEEP_S: Final = 3_600.0  # clocks are set, and hosts sleep

log = get_log(__name__)


class Renewal:
    """Of one live link. `run` asks when it is time; `take` keeps what was answered."""

    def __init__(
        self,
        state_dir: Path,
        member: Membership,
        *,
        trust_sha256: str,
        clock: Clock,
        jitter: Callable[[], float],
    ) -> None:
        """`trust_sha256` is what the controller said of the authorities that count, "" if it said nothing."""
        self._state_dir, self._clock, self._jitter = state_dir, clock, jitter
        self._ends_at = member.ends_at
        self._due_at = renewal_due(member.begins_at, member.ends_at, jitter())
        self._asked = False
        if trust_sha256 not in ("", member.trust_sha256):
            soon = clock.now() + timedelta(seconds=TRUST_SPREAD_S * jitter())
            self._due_at = min(self._due_at, soon)

    async def run(self, ask: Callable[[], None]) -> NoReturn:
        """Call `ask` whenever a new certificate is due; again while nothing is answered."""
        while True:
            now = self._clock.now()
            if now >= self._due_at:
                if self._asked:
                    log.warning("the controller has not renewed the certificate", ends_at=_say(self._ends_at))
                self._asked = True
                self._due_at = now + timedelta(seconds=retry_after_s(self._ends_at, now))
                ask()
            left_s = (self._due_at - now).total_seconds()
            await self._clock.sleep(min(LONGEST_SLEEP_S, left_s))

    async def take(self, renewed: Renewed) -> None:
        """Keep a new certificate; on disk on return. Raises IdentityError when it is of no use, OSError."""
        folder = IdentityFolder(self._state_dir)
        await asyncio.to_thread(folder.renew, renewed.certificate.encode(), renewed.authorities.encode())
        member = await asyncio.to_thread(read_membership, self._state_dir, Expected())
        self._ends_at, self._asked = member.ends_at, False
        self._due_at = renewal_due(member.begins_at, member.ends_at, self._jitter())
        log.info("certificate was renewed", ends_at=_say(member.ends_at))


class Renewals:
    """Of the certificate in one state directory."""

    def __init__(self, state_dir: Path, clock: Clock, jitter: Callable[[], float]) -> None:
        self._state_dir, self._clock, self._jitter = state_dir, clock, jitter

    def of_link(self, member: Membership, trust_sha256: str) -> Renewal:
        """What keeps it young over a live link."""
        return Renewal(
            self._state_dir, member, trust_sha256=trust_sha256, clock=self._clock, jitter=self._jitter
        )

    async def renew_expired(self, member: Membership) -> Membership:
        """A new certificate in the place of one that has ended, for the same key; on disk on return.

        Raises RefusedError, UnansweredError, ProtocolError, IdentityError, OSError."""
        folder = IdentityFolder(self._state_dir)
        question, trusted = await asyncio.to_thread(_make_question, folder)
        joined = await ask(member.url, RENEW_PATH, question, trusted)
        await asyncio.to_thread(folder.renew, joined.certificate.encode(), joined.authorities.encode())
        log.info("certificate that had ended was renewed", ended_at=_say(member.ends_at))
        return await asyncio.to_thread(read_membership, self._state_dir, Expected(url=member.url))


def _make_question(folder: IdentityFolder) -> tuple[RenewExpired, ssl.SSLContext]:
    from agent.keys import make_request  # noqa: PLC0415 - for this rare case alone

    certificate = folder.certificate_file.read_text(encoding="ascii")
    question = RenewExpired(certificate=certificate, csr=make_request(folder.key_file.read_bytes()))
    return question, authority_context(folder.authority_file.read_text(encoding="ascii"))


def _say(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
