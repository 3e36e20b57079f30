"""The host's own key and what is signed with it. The library for it is large: a daemon that stays for months
imports this only when it has to."""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.join_token import JoinToken

_PEM: Final = serialization.Encoding.PEM


def make_key() -> bytes:
    """A new ECDSA P-256 key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def make_request(key: bytes) -> str:
    """A certificate request (PKCS #10, PEM) by this key. It names nobody: that is the controller's to say.

    Raises ValueError or TypeError when it is no key of ours."""
    private = serialization.load_pem_private_key(key, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise TypeError("it is no ECDSA key")
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.sign(private, hashes.SHA256()).public_bytes(_PEM).decode()


def find_authority(pem: bytes, token: JoinToken) -> str:
    """Of these certificates the one whose key `token` names, PEM; "" when there is none, or nothing that can
    be read."""
    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        return ""
    for one in certificates:
        spki = one.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        if token.names(spki):
            return one.public_bytes(_PEM).decode()
    return ""


def fingerprint(pem: bytes) -> str:
    """SHA-256 of what a controller showed, for people to compare; hexadecimal."""
    return hashlib.sha256(pem).hexdigest()
