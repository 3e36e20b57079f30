"""Join tokens as people hand them over: `rhj1.<hash of the authority's key>.<secret>`.

The hash comes first because it is used first: whoever holds the token can tell the right controller from
any other before the secret leaves the host."""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from typing import Final

from .errors import ReleasehandError

PREFIX: Final = "rhj1"
SECRET_BYTES: Final = 16
MAX_TOKEN_CHARS: Final = 128
_TEXT: Final = re.compile(r"rhj1\.([A-Za-z0-9_-]{43})\.([A-Za-z0-9_-]{22})\Z")


class BadJoinTokenError(ReleasehandError):
    """The text is no join token. It is not repeated here: it may be another secret."""

    def __init__(self, why: str) -> None:
        super().__init__(f"cannot read the join token: {why}")


@dataclass(frozen=True, slots=True)
class JoinToken:
    """`authority_sha256` is the digest of the authority's SubjectPublicKeyInfo (RFC 7469, 2.4), 32 bytes."""

    authority_sha256: bytes
    secret: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """As it is shown to people, once."""
        return f"{PREFIX}.{show_key_hash(self.authority_sha256)}.{self.secret_text}"

    @property
    def secret_text(self) -> str:
        """What is sent to the controller, when that has been recognised."""
        return _encode(self.secret)

    def names(self, public_key: bytes) -> bool:
        """Whether this SubjectPublicKeyInfo (DER) is the authority's."""
        return hmac.compare_digest(hashlib.sha256(public_key).digest(), self.authority_sha256)


def parse_join_token(text: str) -> JoinToken:
    """Spaces and line ends around it do not count. Raises BadJoinTokenError."""
    text = text.strip()
    if not text:
        raise BadJoinTokenError("there is none")
    if not text.startswith(f"{PREFIX}."):
        raise BadJoinTokenError(f"it does not begin with '{PREFIX}.'")
    found = _TEXT.match(text)
    if found is None:
        raise BadJoinTokenError("it is cut short, or something is added to it")
    authority, secret = (_decode(part) for part in found.groups())
    token = JoinToken(authority, secret)
    if token.text != text:  # the last digit of either part has bits to spare: one token has one spelling
        raise BadJoinTokenError("a character of it is wrong")
    return token


def show_key_hash(authority_sha256: bytes) -> str:
    """As tokens carry it and `pki show` tells it: base64url without padding."""
    return _encode(authority_sha256)


def hash_secret(secret_text: str) -> str:
    """What the controller stores of a secret, hexadecimal. 128 random bits need no slow hash."""
    return hashlib.sha256(secret_text.encode()).hexdigest()


def _encode(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
