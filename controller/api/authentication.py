"""Bearer tokens of callers (RFC 6750): those that were made here, and those of the configuration."""

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from controller.core.token import EVERYTHING, Grant, KnownToken, digest_of, is_damaged
from releasehand.model import ErrorType, Scope, TokenStatus, format_time
from shared.clock import Clock

from .errors import ApiError

REALM: Final = "releasehand"
_INVALID: Final = ', error="invalid_token"'
_PREFIX: Final = "cannot tell who calls: "


class TokenStore(Protocol):
    """Where tokens are looked up."""

    async def find_token(self, digest: str) -> KnownToken | None:
        """The token with this digest, whether or not it is in force."""
        ...


@dataclass(frozen=True, slots=True)
class Caller:
    """Who calls, what they may do, and until when. `token_id` is "" for a token of the configuration."""

    name: str
    grant: Grant
    token_id: str = ""
    ends_at: datetime | None = None


NOBODY: Final = Caller("", Grant(frozenset()))
"""Who calls an open route."""


class Callers:
    """Who may call. A token of the configuration may do everything and ends with the process; another is
    looked up at each call, so that it is out of force the moment it is revoked, whoever revoked it."""

    def __init__(self, tokens: Mapping[str, str], store: TokenStore, clock: Clock) -> None:
        """`tokens` maps the names of callers in the configuration to their tokens."""
        self._configured = {name: digest_of(token) for name, token in tokens.items()}
        self._store, self._clock = store, clock

    async def identify(self, authorization: str | None) -> Caller:
        """The caller whose token the header carries. Raises ApiError `unauthenticated`,
        StoreUnavailableError."""
        if authorization is None:
            raise unauthenticated("send 'Authorization: Bearer <token>'", "")
        scheme, _, token = authorization.partition(" ")
        token = token.strip()
        if scheme.lower() != "bearer" or not token:
            raise unauthenticated("the Authorization header holds no bearer token", "")
        digest = digest_of(token)
        if (name := self._find_configured(digest)) is not None:
            return Caller(name, EVERYTHING)
        if is_damaged(token):
            raise unauthenticated("the token is damaged: it was cut or mistyped")
        known = await self._store.find_token(digest)
        if known is None:
            raise unauthenticated("no caller has this token")
        return self._judge(known)

    def _find_configured(self, digest: str) -> str | None:
        """Takes the same time however much of a token is right."""
        found = None
        for name, expected in self._configured.items():
            if hmac.compare_digest(digest, expected):
                found = name
        return found

    def _judge(self, known: KnownToken) -> Caller:
        """Who shows a token that was good once has had it, and may be told what became of it."""
        match known.status(self._clock.now()):
            case TokenStatus.IN_FORCE:
                return Caller(known.name, known.grant, known.token_id, known.expires_at)
            case TokenStatus.EXPIRED:
                at = format_time(known.expires_at) if known.expires_at else ""
                raise unauthenticated(f"token '{known.name}' expired at {at}; ask for a new one")
            case TokenStatus.REVOKED:
                raise unauthenticated(f"token '{known.name}' was revoked; ask for a new one")


def unauthenticated(why: str, attributes: str = _INVALID) -> ApiError:
    challenge = f'Bearer realm="{REALM}"{attributes}'
    return ApiError(ErrorType.UNAUTHENTICATED, _PREFIX + why, headers={"WWW-Authenticate": challenge})


def missing_scope(caller: Caller, scope: Scope) -> ApiError:
    """RFC 6750 §3.1."""
    has = ", ".join(sorted(caller.grant.scopes)) or "none"
    challenge = f'Bearer realm="{REALM}", error="insufficient_scope", scope="{scope}"'
    detail = f"cannot do this: it takes the scope {scope}, and token '{caller.name}' has {has}"
    return ApiError(ErrorType.FORBIDDEN, detail, headers={"WWW-Authenticate": challenge})
