"""What the authority signs: certificates of agents and of servers. Pure but for the randomness of serials.

The caller decides who it is for: of a request, nothing but the public key is taken."""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from shared.identity import agent_uri

from .authority import BACKDATED, Authority, allow_usage, hash_key

MAX_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name; the whole name is in the alternative names


@dataclass(frozen=True, slots=True)
class Issued:
    """An agent's certificate with what is kept of it."""

    serial: str  # as `serial_text` writes it
    agent_id: str
    key_sha256: str  # of the public key, base64url
    issued_at: datetime
    not_after: datetime
    pem: str


def serial_text(serial: int) -> str:
    """Lower-case hexadecimal without leading zeros: one text for each serial, wherever it was read."""
    return f"{serial:x}"


def issue_for_agent(
    authority: Authority,
    agent_id: str,
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    life: timedelta,
) -> Issued:
    """A certificate by which agent `agent_id` opens links, and nobody serves anything.

    It begins an hour before `now` and ends `life` after it, or with the authority."""
    alternative = x509.UniformResourceIdentifier(agent_uri(agent_id))
    certificate = _sign(authority, agent_id, [alternative], key, ExtendedKeyUsageOID.CLIENT_AUTH, now, life)
    return Issued(
        serial=serial_text(certificate.serial_number),
        agent_id=agent_id,
        key_sha256=hash_key(key),
        issued_at=now,
        not_after=certificate.not_valid_after_utc,
        pem=certificate.public_bytes(serialization.Encoding.PEM).decode(),
    )


def issue_for_server(
    authority: Authority,
    names: Sequence[str],
    key: ec.EllipticCurvePublicKey,
    *,
    now: datetime,
    life: timedelta,
) -> bytes:
    """A certificate, PEM, by which a server is found at `names`: addresses and host names, at least one."""
    alternatives = [general_name(name) for name in names]
    usage = ExtendedKeyUsageOID.SERVER_AUTH
    certificate = _sign(authority, names[0], alternatives, key, usage, now, life)
    return certificate.public_bytes(serialization.Encoding.PEM)


def _sign(
    authority: Authority,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    key: ec.EllipticCurvePublicKey,
    usage: ObjectIdentifier,
    now: datetime,
    life: timedelta,
) -> x509.Certificate:
    ends_at = min(now + life, authority.certificate.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_COMMON_NAME])]))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(ends_at.replace(microsecond=0))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(allow_usage(signs_certificates=False), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
        .sign(authority.key, hashes.SHA256())
    )


def general_name(name: str) -> x509.GeneralName:
    """How a certificate says an address or a host name. Raises ValueError for what is neither."""
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
