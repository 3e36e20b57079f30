"""Join tokens, and the end of an agent."""

from enum import StrEnum
from typing import Annotated, Final

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from .fields import NAME_SCHEMA_PATTERN, Answer, Request, Time, check_name

DEFAULT_JOIN_TTL_S: Final = 3_600
MAX_JOIN_TTL_S: Final = 30 * 86_400
MAX_JOIN_USES: Final = 10_000
MAX_REASON_CHARS: Final = 256


def _check_optional_name(value: str) -> str:
    return value and check_name(value)


OptionalName = Annotated[
    str,
    Field(max_length=128, json_schema_extra={"pattern": f"^({NAME_SCHEMA_PATTERN[1:-1]})?$"}),
    AfterValidator(_check_optional_name),
]


class JoinTokenParams(Request):
    """For one agent that is named, or for some that nobody knows yet."""

    model_config = ConfigDict(
        json_schema_extra={
            "anyOf": [{"properties": {"host": {"const": ""}}}, {"properties": {"max_uses": {"maximum": 1}}}]
        }
    )

    host: OptionalName = Field(
        default="", description="The agent id that it is for, once; empty: any name that is new."
    )
    max_uses: int = Field(
        default=0, ge=0, le=MAX_JOIN_USES, description="How many agents; 0 means 1, and a named host is one."
    )
    ttl: int = Field(default=0, ge=0, le=MAX_JOIN_TTL_S, description="Seconds; 0 means 3600.")

    @model_validator(mode="after")
    def _once_for_a_host(self) -> "JoinTokenParams":
        if self.host and self.max_uses > 1:
            raise ValueError("a token for a named host is used once: leave max_uses out")
        return self


class JoinTokenState(StrEnum):
    """Whether a join token still lets somebody in."""

    OPEN = "open"
    USED = "used"
    EXPIRED = "expired"
    REVOKED = "revoked"


class JoinTokenSummary(Answer):
    """A join token without its secret, which nobody can read again."""

    token_id: str
    host: str
    max_uses: int
    uses: int
    state: JoinTokenState
    created_by: str
    created_at: Time
    expires_at: Time
    revoked_at: Time | None


class JoinTokenResult(Answer):
    """`token` is shown this once. `command` is what to run on a host that has an agent; `install_command`
    what root runs on one that has none, "" where the controller installs none."""

    join_token: JoinTokenSummary
    token: str
    command: str
    install_command: str


class JoinTokenList(Answer):
    """Newest first."""

    join_tokens: list[JoinTokenSummary]
    total: int
    limit: int
    offset: int


class RevokeAgentParams(Request):
    """Why an agent is shut out; told to it, and kept."""

    reason: str = Field(default="", max_length=MAX_REASON_CHARS)


class RevokeAgentResult(Answer):
    """`revoked_certificates` were in force until now; 0 when the agent was shut out before."""

    agent_id: str
    revoked_certificates: int
    revoked_at: Time
