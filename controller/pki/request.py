"""A certificate request (PKCS #10) as a host sends it. Who it is for is not its to say."""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from shared.errors import ReleasehandError

MAX_REQUEST_CHARS: Final = 8_192


class BadRequestError(ReleasehandError):
    """What was sent is no request that can be granted."""


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """The key that asks, and every name that stands in the request: nothing is ever named after them."""

    key: ec.EllipticCurvePublicKey
    names: tuple[str, ...]


def read_request(pem: str) -> CertificateRequest:
    """Its signature is checked, so the sender has the private key. Raises BadRequestError."""
    if len(pem) > MAX_REQUEST_CHARS:
        raise BadRequestError(f"cannot read the certificate request: over {MAX_REQUEST_CHARS} characters")
    try:
        request = x509.load_pem_x509_csr(pem.encode("ascii"))
        key, signed, names = request.public_key(), request.is_signature_valid, _names_in(request)
    except (ValueError, UnsupportedAlgorithm, TypeError) as exc:
        raise BadRequestError("cannot read the certificate request: it is no PKCS #10 in PEM form") from exc
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequestError("cannot grant the certificate request: its key is not ECDSA P-256")
    if not signed:
        raise BadRequestError("cannot grant the certificate request: it is not signed by its own key")
    return CertificateRequest(key, names)


def _names_in(request: x509.CertificateSigningRequest) -> tuple[str, ...]:
    names = [str(attribute.value) for attribute in request.subject]
    try:
        alternatives = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return tuple(names)
    return (*names, *(str(getattr(name, "value", name)) for name in alternatives))
