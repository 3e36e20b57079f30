"""What the authority signs: certificates of agents and of servers.

The store decides who it is for: of a request, nothing but the public key is taken."""

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from controller.core.enrolment import Certificate
from shared.identity import BACKDATED, agent_uri

from .authority import Authority, allow_usage

MAX_COMMON_NAME: Final = 64  # RFC 5280, ub-common-name; the whole name is in the alternative names


def serial_text(serial: int) -> str:
    """Lower-case hexadecimal without leading zeros: one text for each serial, wherever it was read."""
    return f"{serial:x}"


def issue_for_agent(authority: Authority, certificate: Certificate, key: ec.EllipticCurvePublicKey) -> str:
    """The certificate, PEM, by which an agent opens links, and nobody serves anything.

    It is for `key` what `certificate` says, and begins an hour before that. Safe to repeat: another time it
    differs in nothing but its signature."""
    alternative = x509.UniformResourceIdentifier(agent_uri(certificate.agent_id))
    signed = _sign(
        authority,
        int(certificate.serial, 16),
        certificate.agent_id,
        [alternative],
        key,
        ExtendedKeyUsageOID.CLIENT_AUTH,
        certificate.issued_at,
        certificate.not_after,
    )
    return signed.public_bytes(serialization.Encoding.PEM).decode()


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
    ends_at = min(now + life, authority.ends_at)
    serial = x509.random_serial_number()
    certificate = _sign(authority, serial, names[0], alternatives, key, usage, now, ends_at)
    return certificate.public_bytes(serialization.Encoding.PEM)


def _sign(
    authority: Authority,
    serial: int,
    name: str,
    alternatives: Sequence[x509.GeneralName],
    key: ec.EllipticCurvePublicKey,
    usage: ObjectIdentifier,
    now: datetime,
    ends_at: datetime,
) -> x509.Certificate:
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:MAX_COMMON_NAME])]))
        .issuer_name(authority.certificate.subject)
        .public_key(key)
        .serial_number(serial)
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
