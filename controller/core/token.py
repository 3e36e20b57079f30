"""Tokens of the API's callers: their form, and what each may do.

The form lets scanners find a leaked one: a prefix, and a checksum that nothing else has by chance."""

import hashlib
import zlib
from dataclasses import dataclass
from datetime import datetime
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Final

from releasehand.model import Scope, TokenStatus

from .refusals import RefusalError

PREFIX: Final = "rht_"
SECRET_BYTES: Final = 32
SECRET_DIGITS: Final = 43
"""62**43 > 2**256."""
CHECK_DIGITS: Final = 6
"""62**6 > 2**32."""
TOKEN_CHARS: Final = len(PREFIX) + SECRET_DIGITS + CHECK_DIGITS
_ALPHABET: Final = digits + ascii_uppercase + ascii_lowercase


def make_token(secret: bytes) -> str:
    """The token that stands for SECRET_BYTES of randomness: prefix, 43 base62 digits, and 6 of the CRC32 of
    all before."""
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a token is made of {SECRET_BYTES} random bytes, not {len(secret)}")
    body = PREFIX + _base62(int.from_bytes(secret, "big"), SECRET_DIGITS)
    return body + _checksum(body)


def is_damaged(token: str) -> bool:
    """Whether a text looks like a token of ours and cannot be one: cut, or mistyped."""
    if not token.startswith(PREFIX):
        return False
    body, check = token[:-CHECK_DIGITS], token[-CHECK_DIGITS:]
    return len(token) != TOKEN_CHARS or not token.isascii() or check != _checksum(body)


def digest_of(token: str) -> str:
    """What is kept of a token: SHA-256 in hexadecimal, which suits what is random and long. Never raises."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).hexdigest()


def _checksum(body: str) -> str:
    return _base62(zlib.crc32(body.encode()), CHECK_DIGITS)


def _base62(number: int, length: int) -> str:
    found = []
    for _ in range(length):
        number, digit = divmod(number, len(_ALPHABET))
        found.append(_ALPHABET[digit])
    return "".join(reversed(found))


@dataclass(frozen=True, slots=True)
class Grant:
    """What a caller may do. `services` limits the scopes deploy:read and deploy:write; empty means all."""

    scopes: frozenset[Scope]
    services: frozenset[str] = frozenset()

    @property
    def is_limited(self) -> bool:
        return bool(self.services)

    def reaches(self, service: str | None) -> bool:
        """Whether `service` is one of its own. None: nobody knows which one it is."""
        return not self.services or service in self.services

    def covers(self, other: "Grant") -> bool:
        """Whether it can give what `other` has: nobody gives more than they have."""
        within = not self.services or (bool(other.services) and other.services <= self.services)
        return within and other.scopes <= self.scopes


EVERYTHING: Final = Grant(frozenset(Scope))


@dataclass(frozen=True, slots=True)
class KnownToken:
    """A token as the database has it, without anything that could be used."""

    token_id: str
    name: str
    grant: Grant
    expires_at: datetime | None
    revoked_at: datetime | None

    def status(self, now: datetime) -> TokenStatus:
        return judge(self.expires_at, self.revoked_at, now)


def judge(expires_at: datetime | None, revoked_at: datetime | None, now: datetime) -> TokenStatus:
    if revoked_at is not None:
        return TokenStatus.REVOKED
    return TokenStatus.EXPIRED if expires_at is not None and expires_at <= now else TokenStatus.IN_FORCE


class UnknownTokenError(RefusalError):
    def __init__(self, name: str) -> None:
        self.name = name
        super().__init__(f"cannot find token '{name}': none of that name was made")


class TokenExistsError(RefusalError):
    def __init__(self, name: str, why: str = "one of that name is in force; revoke it first") -> None:
        self.name = name
        super().__init__(f"cannot make token '{name}': {why}")
