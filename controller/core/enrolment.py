"""Who may have a certificate, and under which name. The store carries out what is decided here.

An agent joins with a token and renews with the certificate that it has. Of its request only the key counts:
what it is called stands in the token, or is a name that nobody had before."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.errors import ReleasehandError

RENEWABLE_AFTER_END: Final = timedelta(days=90)
"""An expired certificate may still do this one thing: renew itself, with the same key."""


class EnrolmentCode(StrEnum):
    """Why no certificate is given, or one does not count: the same on the wire, in logs and in the audit."""

    UNKNOWN_TOKEN = "unknown_token"
    TOKEN_REVOKED = "token_revoked"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_USED = "token_used"
    OTHER_HOST = "other_host"  # the token is for another agent
    NAME_MISSING = "name_missing"  # neither token nor agent says one
    NAME_TAKEN = "name_taken"
    NAME_CLAIMED = "name_claimed"  # the request names somebody else than it would be given to
    BAD_REQUEST = "bad_request"  # nothing that can be signed
    UNKNOWN_CERTIFICATE = "unknown_certificate"
    CERTIFICATE_REVOKED = "certificate_revoked"
    CERTIFICATE_EXPIRED = "certificate_expired"
    OTHER_KEY = "other_key"


class EnrolmentRefusedError(ReleasehandError):
    """No certificate is given, or the one that is shown does not count. The text says what to do."""

    def __init__(self, code: EnrolmentCode, text: str) -> None:
        self.code = code
        super().__init__(text)


@dataclass(frozen=True, slots=True)
class JoinToken:
    """A join token as it is recorded. `host` "": for any agent whose name is new."""

    token_id: str
    host: str
    max_uses: int
    uses: int
    expires_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True)
class Applicant:
    """What a host asks with: the name it wants ("" leaves it to the token), and its key's hash.

    It has shown that it has the key. `claimed` are all names that stand in its request."""

    agent_id: str
    key_sha256: str
    claimed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A certificate that was given, as far as it is recorded. Times are whole seconds, as X.509 has them.

    `authority` is the hash of the key that signed it; "" where that was not recorded."""

    serial: str
    agent_id: str
    key_sha256: str
    issued_at: datetime
    not_after: datetime
    authority: str
    revoked_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Term:
    """What certificates are given on: each lasts `life`, and not beyond `latest`, the end of the authority
    that signs it. `authority` is the hash of its key."""

    life: timedelta
    latest: datetime
    authority: str

    def certificate(self, serial: str, agent_id: str, key_sha256: str, now: datetime) -> Certificate:
        """A new one from now on."""
        issued_at = now.replace(microsecond=0)
        ends_at = min(issued_at + self.life, self.latest).replace(microsecond=0)
        return Certificate(serial, agent_id, key_sha256, issued_at, ends_at, self.authority)


@dataclass(frozen=True, slots=True)
class Admission:
    """The agent that may join. `again`: it did with this token and key, and is given the same once more.
    `replaces`: what it had before ends."""

    agent_id: str
    again: Certificate | None
    replaces: bool


def name_applicant(token: JoinToken | None, applicant: Applicant) -> str:
    """The agent that would join; "" when nobody says."""
    return (token.host if token else "") or applicant.agent_id


def admit(
    token: JoinToken | None,
    applicant: Applicant,
    *,
    given: Certificate | None,
    known: bool,
    now: datetime,
) -> Admission:
    """Whether `applicant` may join with `token`.

    `given` is the newest certificate that this token brought the agent with this key; `known`: the agent
    has or had some certificate. Raises EnrolmentRefusedError."""
    if token is None:
        raise _refuse(EnrolmentCode.UNKNOWN_TOKEN, "this controller has no such join token: make a new one")
    if token.revoked_at is not None:
        raise _refuse(EnrolmentCode.TOKEN_REVOKED, "the join token was revoked: make a new one")
    if token.expires_at <= now:
        raise _refuse(
            EnrolmentCode.TOKEN_EXPIRED, f"the join token expired at {_say(token.expires_at)}: make a new one"
        )
    if token.host and applicant.agent_id not in ("", token.host):
        raise _refuse(
            EnrolmentCode.OTHER_HOST,
            f"the join token is for agent '{token.host}', and this one calls itself '{applicant.agent_id}'",
        )
    agent_id = name_applicant(token, applicant)
    if not agent_id:
        raise _refuse(
            EnrolmentCode.NAME_MISSING,
            "the join token names no agent: put agent_id into agent.toml, or use --agent-id",
        )
    check_claims(agent_id, applicant)
    if given is not None and given.revoked_at is None:
        return Admission(agent_id, given, replaces=False)
    if token.uses >= token.max_uses:
        times = "already" if token.max_uses == 1 else f"{token.uses} times"
        raise _refuse(EnrolmentCode.TOKEN_USED, f"the join token was used {times}: make a new one")
    if known and not token.host:
        raise _refuse(
            EnrolmentCode.NAME_TAKEN,
            f"agent '{agent_id}' has joined before: make a token for it, with --host {agent_id}",
        )
    return Admission(agent_id, None, replaces=known)


def check_claims(agent_id: str, applicant: Applicant) -> None:
    """Raises EnrolmentRefusedError when the request names anybody but the agent that it would be given to."""
    for name in applicant.claimed:
        if name not in (agent_id, f"releasehand://agent/{agent_id}"):
            raise _refuse(
                EnrolmentCode.NAME_CLAIMED,
                f"the certificate request names '{name}', and would be given to agent '{agent_id}'",
            )


def check_standing(certificate: Certificate | None, agent_id: str) -> Certificate:
    """The certificate of a link, if its agent may still speak by it. When it ends is TLS's to check.

    Raises EnrolmentRefusedError."""
    if certificate is None or certificate.agent_id != agent_id:
        raise _refuse(
            EnrolmentCode.UNKNOWN_CERTIFICATE,
            f"this controller has not given agent '{agent_id}' this certificate: let the host join again",
        )
    if certificate.revoked_at is not None:
        raise _refuse(
            EnrolmentCode.CERTIFICATE_REVOKED,
            f"the certificate of agent '{agent_id}' was revoked at {_say(certificate.revoked_at)}:"
            " if the host is to come back, let it join again",
        )
    return certificate


def check_link(certificate: Certificate | None, agent_id: str, key_sha256: str) -> Certificate:
    """The same, for a link whose other end has shown this key: serials are no secret, and whoever stole the
    authority's key signs each that they like. Raises EnrolmentRefusedError."""
    standing = check_standing(certificate, agent_id)
    if key_sha256 != standing.key_sha256:
        raise _refuse(
            EnrolmentCode.OTHER_KEY,
            f"this is not the certificate that agent '{agent_id}' was given, for its key is another: somebody"
            " else has signed it with the authority's key, so replace that (pki rotate)",
        )
    return standing


def check_departure(certificate: Certificate | None, agent_id: str, key_sha256: str, *, left: bool) -> bool:
    """Whether the agent is still to be let go; False where it left by this certificate, which it did if that
    was revoked because it `left`: its answer was lost. Raises EnrolmentRefusedError."""
    if left and certificate and (certificate.agent_id, certificate.key_sha256) == (agent_id, key_sha256):
        return False
    check_link(certificate, agent_id, key_sha256)
    return True


def check_renewal(
    certificate: Certificate | None, agent_id: str, applicant: Applicant, now: datetime
) -> Certificate:
    """The certificate that may be replaced by a new one for the same key. Raises EnrolmentRefusedError."""
    old = check_standing(certificate, agent_id)
    if applicant.key_sha256 != old.key_sha256:
        raise _refuse(
            EnrolmentCode.OTHER_KEY, "a certificate is renewed for its own key: to change the key, join again"
        )
    if old.not_after + RENEWABLE_AFTER_END <= now:
        raise _refuse(
            EnrolmentCode.CERTIFICATE_EXPIRED,
            f"the certificate ended at {_say(old.not_after)}, more than {RENEWABLE_AFTER_END.days} days ago:"
            " let the host join again",
        )
    check_claims(agent_id, applicant)
    return old


def _refuse(code: EnrolmentCode, text: str) -> EnrolmentRefusedError:
    return EnrolmentRefusedError(code, text)


def _say(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
