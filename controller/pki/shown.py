"""Certificates that agents show: on their link, where TLS has checked them, or as a document once they have
expired."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from shared.identity import find_agent_id

from .authority import hash_key
from .issue import serial_text
from .request import BadRequestError

MAX_CERTIFICATE_CHARS: Final = 16_384


@dataclass(frozen=True, slots=True)
class ShownCertificate:
    """What counts of one. `serial` is as the store has it."""

    serial: str
    agent_id: str
    key: ec.EllipticCurvePublicKey
    ends_at: datetime


def read_link_certificate(der: bytes) -> ShownCertificate:
    """The one that a link stands on. Raises BadRequestError."""
    try:
        return _read(x509.load_der_x509_certificate(der))
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BadRequestError("cannot read the certificate of the link") from exc


def hash_link_key(der: bytes) -> str:
    """The hash of the key that the other end of a link has shown, as the store has it. Raises
    BadRequestError."""
    try:
        return hash_key(x509.load_der_x509_certificate(der).public_key())
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BadRequestError("cannot read the certificate of the link") from exc


def read_expired(pem: str, authorities: list[x509.Certificate]) -> ShownCertificate:
    """One that is of these authorities, whatever the time. Raises BadRequestError."""
    if len(pem) > MAX_CERTIFICATE_CHARS:
        raise BadRequestError(f"cannot read the certificate: over {MAX_CERTIFICATE_CHARS} characters")
    try:
        certificate = x509.load_pem_x509_certificate(pem.encode("ascii"))
        if not any(_is_of(certificate, authority) for authority in authorities):
            raise BadRequestError("cannot renew the certificate: it is of another authority")
        return _read(certificate)
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise BadRequestError("cannot read the certificate: it is no X.509 in PEM form") from exc


def _is_of(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _read(certificate: x509.Certificate) -> ShownCertificate:
    """Raises ValueError, BadRequestError."""
    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise BadRequestError("cannot renew the certificate: its key is not ECDSA")
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise BadRequestError("cannot renew the certificate: it is no agent's") from None
    agent_id = find_agent_id(names.get_values_for_type(x509.UniformResourceIdentifier))
    if not agent_id:
        raise BadRequestError("cannot renew the certificate: it is no agent's")
    return ShownCertificate(
        serial_text(certificate.serial_number), agent_id, key, certificate.not_valid_after_utc
    )
