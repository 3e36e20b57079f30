"""Tokens of the API's callers: what each may do, and how they are made and taken away."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator, Field

from .fields import Answer, Name, Request, Time

MAX_TOKEN_TTL_S: Final = 10 * 365 * 86_400
MAX_SERVICES: Final = 1_000


class Scope(StrEnum):
    """What a token may be used for. Each route asks for one; none of them includes another."""

    DEPLOY_READ = "deploy:read"  # look at operations, services and instances
    DEPLOY_WRITE = "deploy:write"  # start, retry and cancel operations
    AGENT_ADMIN = "agent:admin"  # retire and move instances, let agents join, revoke them
    TOKEN_ADMIN = "token:admin"  # make, list and revoke tokens; read the audit


class TokenStatus(StrEnum):
    IN_FORCE = "in_force"
    EXPIRED = "expired"
    REVOKED = "revoked"


def _check_distinct(names: list[str]) -> list[str]:
    if len(set(names)) < len(names):
        raise ValueError("names one more than once")
    return names


def _read_scope(value: object) -> object:
    """JSON has words, not members of an enum."""
    if isinstance(value, str) and value in set(Scope):
        return Scope(value)
    raise ValueError(f"must be one of {', '.join(Scope)}")


ScopeWord = Annotated[Scope, BeforeValidator(_read_scope)]
Scopes = Annotated[
    list[ScopeWord],
    Field(min_length=1, max_length=len(Scope), json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_distinct),
]
Services = Annotated[
    list[Name],
    Field(max_length=MAX_SERVICES, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_distinct),
]


class CreateTokenParams(Request):
    """`services` limits the scopes deploy:read and deploy:write to these services; empty means all. `ttl` is
    in seconds; 0 means that the token does not expire."""

    name: Name
    scopes: Scopes
    services: Services = Field(default=[])
    ttl: int = Field(default=0, ge=0, le=MAX_TOKEN_TTL_S)


class Token(Answer):
    """A token without its secret. `last_used_at` may be up to a minute late."""

    name: str
    scopes: list[Scope]
    services: list[str]
    status: TokenStatus
    created_by: str
    created_at: Time
    expires_at: Time | None
    last_used_at: Time | None
    last_used_from: str
    revoked_at: Time | None


class NewToken(Token):
    """`token` is the secret. It is shown here and never again."""

    token: str


class TokenList(Answer):
    """Newest first."""

    tokens: list[Token]
    total: int
    limit: int
    offset: int
