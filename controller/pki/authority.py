"""The authority: one ECDSA P-256 key and a certificate signed by itself, in a folder of this controller.

Whoever has the key can be any agent and any hub. Everything here blocks; call it from a thread."""

import base64
import hashlib
import stat
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import NameOID

from shared.errors import ReleasehandError
from shared.files import place_file, sync_directory
from shared.identity import BACKDATED

CERTIFICATE_NAME: Final = "ca.pem"
KEY_NAME: Final = "ca.key"
LIFE: Final = timedelta(days=3_650)
NOBODY_ELSE: Final = 0o077
_PEM: Final = serialization.Encoding.PEM


class AuthorityError(ReleasehandError):
    """The folder holds no authority that can be used; the text says which file is wrong, and how."""


@dataclass(frozen=True, slots=True)
class Authority:
    """Certificate and key, which belong together; `others` count too while one takes the place of another."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)
    others: tuple[x509.Certificate, ...] = ()

    @property
    def trusted(self) -> list[x509.Certificate]:
        """All whose signatures count, this one first."""
        return [self.certificate, *self.others]

    @property
    def pem(self) -> bytes:
        """The certificates of all that count, which everybody may know: as ca.pem has them."""
        return b"".join(one.public_bytes(_PEM) for one in self.trusted)

    @property
    def ends_at(self) -> datetime:
        """No certificate that it signs is good for longer."""
        return self.certificate.not_valid_after_utc

    @property
    def key_hash(self) -> str:
        """SHA-256 of the public key (SubjectPublicKeyInfo) in base64url without padding: what a join token
        carries, so that a host knows the authority before it trusts anything."""
        return hash_key(self.key.public_key())

    @property
    def other_key_hashes(self) -> list[str]:
        """The same of those that count beside this one."""
        return [hash_key(one.public_key()) for one in self.others]


def hash_key(key: CertificatePublicKeyTypes) -> str:
    """SHA-256 of SubjectPublicKeyInfo (RFC 5280, 4.1.2.7), base64url without padding."""
    encoded = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.urlsafe_b64encode(hashlib.sha256(encoded).digest()).rstrip(b"=").decode()


def open_authority(directory: Path, now: datetime) -> Authority:
    """The authority in `directory`, made there first if there is none; on disk on return.

    What is there is never changed, so it is safe to repeat, and of several that start at once one makes
    it. Raises AuthorityError."""
    try:
        _make_folder(directory)
        if not (directory / CERTIFICATE_NAME).exists():
            # The key first: a certificate without its key could not be repaired.
            key = make_key(directory / KEY_NAME)
            certificate = sign_itself(key, now)
            place_file(directory / CERTIFICATE_NAME, certificate.public_bytes(_PEM), mode=0o644)
    except OSError as exc:
        raise AuthorityError(f"cannot make an authority in {directory}: {exc.strerror or exc}") from exc
    return read_authority(directory, now)


def read_authority(directory: Path, now: datetime, *, key_name: str = KEY_NAME) -> Authority:
    """The authority in `directory` whose key is in `key_name`. Raises AuthorityError, also when there is
    none."""
    certificates = _read_certificates(directory / CERTIFICATE_NAME)
    key = read_key(directory / key_name)
    own = [one for one in certificates if one.public_key() == key.public_key()]
    if not own:
        raise AuthorityError(f"cannot use {directory}: {key_name} is not the key of {CERTIFICATE_NAME}")
    certificate, others = own[0], tuple(one for one in certificates if one not in own)
    if certificate.not_valid_after_utc <= now:
        ended = certificate.not_valid_after_utc.date()
        raise AuthorityError(f"cannot use {directory / CERTIFICATE_NAME}: it ended on {ended}")
    return Authority(certificate, key, others)


def make_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """The key in `file`, made there for its owner alone unless it exists. Raises OSError, AuthorityError."""
    if not file.exists():
        key = ec.generate_private_key(ec.SECP256R1())
        text = key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        place_file(file, text, mode=0o600)  # of several that make one, all read the same
    return read_key(file)


def read_key(file: Path) -> ec.EllipticCurvePrivateKey:
    """Raises AuthorityError when it is no ECDSA P-256 key, or others may read it."""
    try:
        text, mode = file.read_bytes(), stat.S_IMODE(file.stat().st_mode)
        key = serialization.load_pem_private_key(text, None)
    except OSError as exc:
        raise AuthorityError(f"cannot read {file}: {exc.strerror or exc}") from exc
    except (ValueError, TypeError) as exc:  # TypeError: it is encrypted
        raise AuthorityError(
            f"cannot use {file}: it holds no key that can be read without a password"
        ) from exc
    if mode & NOBODY_ELSE:
        raise AuthorityError(f"cannot use {file}: others may read it (mode {mode:o}); chmod 600 {file}")
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise AuthorityError(f"cannot use {file}: it is no ECDSA P-256 key")
    return key


def _make_folder(directory: Path) -> None:
    if not directory.is_dir():
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        sync_directory(directory.parent)


def _read_certificates(file: Path) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(file.read_bytes())
    except FileNotFoundError as exc:
        raise AuthorityError(
            f"cannot read {file}: there is no authority yet; the controller's first start makes it, or"
            " `releasehand-controller pki init`"
        ) from exc
    except OSError as exc:
        raise AuthorityError(f"cannot read {file}: {exc.strerror or exc}") from exc
    except ValueError as exc:
        raise AuthorityError(f"cannot use {file}: it holds no certificate in PEM form") from exc


def sign_itself(key: ec.EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    """A new authority's certificate."""
    public = key.public_key()
    name = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, f"releasehand authority {hash_key(public)[:8]}")]
    )
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(allow_usage(signs_certificates=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .sign(key, hashes.SHA256())
    )


def allow_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    """An authority signs certificates and nothing else, everybody else handshakes and nothing else."""
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )
