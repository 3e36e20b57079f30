"""The tables of who may do what: certificates, tokens, and what was done with them.

No secret stands in them: tokens are stored as SHA-256, which suits what is random and long."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, Column, Index, Table, Text, text
from sqlmodel import Field

from .columns import Number, Row
from .tables import time_column

IN_FORCE_SQL: Final = "revoked_at IS NULL"
REVOKED_SQL: Final = "revoked_at IS NOT NULL"


class CertificateRow(Row, table=True):
    """A certificate that an agent was given."""

    __tablename__ = "certificate"
    __table_args__ = (
        Index("ix_certificate_agent_id", "agent_id", "issued_at"),
        Index(
            "ix_certificate_revoked",
            "not_after",
            sqlite_where=text(REVOKED_SQL),
            postgresql_where=text(REVOKED_SQL),
        ),
    )

    serial: str = Field(primary_key=True)  # hexadecimal, as X.509 has it
    agent_id: str
    key_sha256: str  # of the public key as SubjectPublicKeyInfo
    join_token: str | None = None  # what it was given for; None: for an older certificate
    issued_at: datetime = time_column()
    not_after: datetime = time_column()
    authority: str = ""  # the hash of the key that signed it, as `pki show` tells it; "" for the oldest rows
    revoked_at: datetime | None = time_column(nullable=True)
    reason: str = ""


class JoinTokenRow(Row, table=True):
    """Leave to join, once for the agent that it names, or some times for agents that nobody knows yet."""

    __tablename__ = "join_token"

    token_id: str = Field(primary_key=True)  # no secret: people name the token by it
    secret_sha256: str = Field(unique=True)
    host: str  # the agent id; "" for any that is new
    max_uses: int
    uses: int
    created_by: str
    created_at: datetime = time_column()
    expires_at: datetime = time_column()
    revoked_at: datetime | None = time_column(nullable=True)


class ApiTokenRow(Row, table=True):
    """A caller of the API."""

    __tablename__ = "api_token"
    __table_args__ = (
        Index(
            "uq_api_token_name",
            "name",
            unique=True,
            sqlite_where=text(IN_FORCE_SQL),
            postgresql_where=text(IN_FORCE_SQL),
        ),
    )

    token_id: str = Field(primary_key=True)  # no secret
    name: str  # of the caller
    token_sha256: str = Field(unique=True)
    scopes: list[str] = Field(sa_column=Column("scopes", JSON, nullable=False))
    services: list[str] = Field(sa_column=Column("services", JSON, nullable=False))  # empty: all
    created_by: str
    created_at: datetime = time_column()
    expires_at: datetime | None = time_column(nullable=True)
    last_used_at: datetime | None = time_column(nullable=True)
    last_used_from: str = ""
    revoked_at: datetime | None = time_column(nullable=True)


class AuditRow(Row, table=True):
    """One attempt to change something: who, when, from where, what, on which objects, with what outcome."""

    __tablename__ = "audit"
    __table_args__ = (
        Index("ix_audit_at", "at", "id"),
        Index("ix_audit_actor", "actor", "at", "id"),
        Index("ix_audit_action", "action", "at", "id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    at: datetime = time_column()
    actor: str  # a caller, an agent, an account of the controller's machine; "" for who is not known
    actor_kind: str
    address: str
    request_id: str
    action: str
    objects: dict[str, Any] = Field(sa_column=Column("objects", JSON, nullable=False))
    outcome: str
    code: str = ""
    message: str = Field(default="", sa_column=Column("message", Text, nullable=False))


CERTIFICATE: Final[Table] = CertificateRow.__table__  # type: ignore[attr-defined]
JOIN_TOKEN: Final[Table] = JoinTokenRow.__table__  # type: ignore[attr-defined]
API_TOKEN: Final[Table] = ApiTokenRow.__table__  # type: ignore[attr-defined]
AUDIT: Final[Table] = AuditRow.__table__  # type: ignore[attr-defined]
