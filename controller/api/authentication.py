"""Bearer tokens of callers (RFC 6750)."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from releasehand.model import ErrorType

from .errors import ApiError

REALM: Final = "releasehand"


class Callers:
    """Who may call. Keeps digests, so that comparing takes the same time however much of a token is right."""

    def __init__(self, tokens: Mapping[str, str]) -> None:
        """`tokens` maps the names of callers to their tokens."""
        self._digests = {name: _digest(token) for name, token in tokens.items()}

    def identify(self, authorization: str | None) -> str:
        """The name of the caller whose token the header carries. Raises ApiError `unauthenticated`."""
        if authorization is None:
            raise _refusal("cannot tell who calls: send 'Authorization: Bearer <token>'", "")
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise _refusal("cannot tell who calls: the Authorization header holds no bearer token", "")
        asked, found = _digest(token.strip()), ""
        for name, digest in self._digests.items():
            if hmac.compare_digest(asked, digest):
                found = name
        if not found:
            raise _refusal("cannot tell who calls: no caller has this token", ', error="invalid_token"')
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _refusal(detail: str, attributes: str) -> ApiError:
    challenge = f'Bearer realm="{REALM}"{attributes}'
    return ApiError(ErrorType.UNAUTHENTICATED, detail, headers={"WWW-Authenticate": challenge})
