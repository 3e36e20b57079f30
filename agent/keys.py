"""The host's own key and what is signed with it. The library for it is large: a daemon that stays for months
imports this only when it has to."""

import hashlib
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from shared.join_token import JoinToken, show_key_hash

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
        if token.names(_public_key(one)):
            return one.public_bytes(_PEM).decode()
    return ""


def describe_authority(pem: bytes) -> str:
    """What a controller showed, for people to compare with `releasehand-controller pki show`."""
    try:
        first = x509.load_pem_x509_certificates(pem)[0]
    except ValueError:
        return "nothing that is a certificate"
    return f"key hash {show_key_hash(hashlib.sha256(_public_key(first)).digest())}"


def _public_key(certificate: x509.Certificate) -> bytes:
    """SubjectPublicKeyInfo, DER."""
    return certificate.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
