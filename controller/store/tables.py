"""The tables (DESIGN «Storage»). Changing one needs a migration; a test holds both equal."""

from datetime import datetime
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Column, Index, String, Table, Text, UniqueConstraint, text
from sqlmodel import Field

from .columns import Number, Row, UtcDateTime

OPEN_SQL: Final = "status IN ('pending', 'in_progress')"
BACKOFF_SQL: Final = "retry_at IS NOT NULL"
HAS_ENDED_SQL: Final = "completed_at IS NOT NULL"
PHASE_ENDED_SQL: Final = "event = 'phase_ended'"


def time_column(*, nullable: bool = False, index: bool = False) -> Any:
    """An instant, in UTC."""
    return Field(
        default=None if nullable else ..., sa_column=Column(UtcDateTime, nullable=nullable, index=index)
    )


class AgentRow(Row, table=True):
    """A host's daemon, and the position up to which its reports are recorded."""

    __tablename__ = "agent"

    agent_id: str = Field(primary_key=True)
    host: str
    version: str
    boot_id: str
    presence: str
    session_epoch: int = Field(sa_type=Number)
    incarnation: str
    last_n: int = Field(sa_type=Number)  # newest recorded report of this incarnation
    facts: dict[str, str] = Field(sa_column=Column("facts", JSON, nullable=False))
    first_seen_at: datetime = time_column()
    presence_changed_at: datetime = time_column()
    last_heartbeat_at: datetime = time_column()
    rejected_reports: int = Field(default=0, sa_type=Number)


class InstanceRow(Row, table=True):
    """One running copy of a service, as its host last described it."""

    __tablename__ = "instance"
    __table_args__ = (
        Index("ix_instance_service", "service", "instance_id"),
        Index("ix_instance_agent_id", "agent_id"),
    )

    instance_id: str = Field(primary_key=True)
    agent_id: str = Field(foreign_key="agent.agent_id")
    service: str
    port: int
    generation: int = Field(sa_type=Number)
    active_release: str
    active_version: str
    active_sha256: str
    state: str
    reason: str
    broken: bool
    releases: list[dict[str, Any]] = Field(sa_column=Column("releases", JSON, nullable=False))
    activate_timeout_s: float
    revert_timeout_s: float
    facts: dict[str, str] = Field(sa_column=Column("facts", JSON, nullable=False))
    expected_version: (
        str  # what the controller recorded as live; differs from the active one while there is drift
    )
    expected_sha256: str
    unknown_task: int | None = Field(default=None, sa_type=Number)  # the host has not spoken since
    retired_at: datetime | None = time_column(nullable=True)
    moved_at: datetime | None = time_column(nullable=True)  # to its agent, which has not listed it since
    updated_at: datetime = time_column()


class OperationRow(Row, table=True):
    """A deployment or a rollback."""

    __tablename__ = "operation"
    __table_args__ = (
        UniqueConstraint("kind", "operation_id"),
        UniqueConstraint("caller", "idempotency_key"),
        Index("ix_operation_kind_ended_at", "kind", "ended_at", "status"),
        Index("ix_operation_kind_accepted_at", "kind", "accepted_at", "id"),
        Index("ix_operation_kind_service", "kind", "service", "accepted_at", "id"),
        Index("ix_operation_kind_status", "kind", "status", "accepted_at", "id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    kind: str
    operation_id: str
    caller: str
    idempotency_key: str | None = None
    fingerprint: dict[str, Any] = Field(sa_column=Column("fingerprint", JSON, nullable=False))
    service: str
    version: str
    rollback_type: str | None = None
    instance_count: int
    status: str
    accepted_at: datetime = time_column()
    updated_at: datetime = time_column()
    ended_at: datetime | None = time_column(nullable=True)
    cancelled_at: datetime | None = time_column(nullable=True)


class TaskRow(Row, table=True):
    """One instance's share of an operation: the row is the truth, messages are hints."""

    __tablename__ = "task"
    __table_args__ = (
        Index(
            "uq_task_open_instance",
            "instance_id",
            unique=True,
            sqlite_where=text(f"{OPEN_SQL} AND superseded_by IS NULL"),
            postgresql_where=text(f"{OPEN_SQL} AND superseded_by IS NULL"),
        ),
        Index("ix_task_closes_at", "closes_at", sqlite_where=text(OPEN_SQL), postgresql_where=text(OPEN_SQL)),
        Index(
            "ix_task_retry_at", "retry_at", sqlite_where=text(BACKOFF_SQL), postgresql_where=text(BACKOFF_SQL)
        ),
        Index("ix_task_operation", "operation", "status"),
        Index(
            "ix_task_instance_id",
            "instance_id",
            sqlite_where=text(OPEN_SQL),
            postgresql_where=text(OPEN_SQL),
        ),
        Index("ix_task_agent_id", "agent_id", sqlite_where=text(OPEN_SQL), postgresql_where=text(OPEN_SQL)),
        Index(  # figures are read from it alone
            "ix_task_completed_at",
            "completed_at",
            "status",
            "error_code",
            "id",
            "accepted_at",
            sqlite_where=text(HAS_ENDED_SQL),
            postgresql_where=text(HAS_ENDED_SQL),
        ),
        Index(
            "ix_task_operation_completed_at",
            "operation",
            "completed_at",
            sqlite_where=text(HAS_ENDED_SQL),
            postgresql_where=text(HAS_ENDED_SQL),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    operation: int = Field(foreign_key="operation.id", sa_type=Number)
    kind: str
    operation_id: str
    service: str
    instance_id: str = Field(foreign_key="instance.instance_id")
    agent_id: str
    generation: int = Field(sa_type=Number)
    target_version: str
    package_url: str = Field(sa_column=Column("package_url", Text, nullable=False))
    url_query: int | None = Field(default=None, sa_type=Number)  # the rest of the URL, where it has one
    package_sha256: str
    source_sha256: str
    force: bool
    accepted_at: datetime = time_column()
    deadline_at: datetime = time_column()
    activation_bound_s: float
    status: str
    attempt: int = Field(sa_type=Number)
    phase: str | None = None
    waiting_for: str | None = None
    error_code: str | None = None
    error_message: str = Field(sa_column=Column("error_message", Text, nullable=False))
    result: str | None = None
    retries_left: int = Field(sa_type=Number)
    last_code: str | None = None
    bytes_done: int = Field(sa_column=Column("bytes_done", BigInteger, nullable=False))
    bytes_total: int = Field(sa_column=Column("bytes_total", BigInteger, nullable=False))
    started_at: datetime | None = time_column(nullable=True)
    completed_at: datetime | None = time_column(nullable=True)
    updated_at: datetime = time_column()
    closes_at: datetime = time_column()
    retry_at: datetime | None = time_column(nullable=True)
    cancel_asked_at: datetime | None = time_column(nullable=True)
    superseded_by: int | None = Field(default=None, sa_type=Number)
    behind: int | None = Field(default=None, sa_type=Number)


class EventRow(Row, table=True):
    """The release log: every state change and every phase, with a start and an end."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_operation", "operation", "id"),
        Index("ix_event_operation_instance", "operation", "instance_id", "id"),
        Index(  # figures are read from it alone
            "ix_event_phase_ended",
            "task",
            "event",  # constant; SQLite reads the row where an index lacks a column that is named
            "phase",
            "outcome",
            "duration_s",
            sqlite_where=text(PHASE_ENDED_SQL),
            postgresql_where=text(PHASE_ENDED_SQL),
        ),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    at: datetime = time_column()
    event: str
    operation: int | None = Field(default=None, sa_type=Number)
    task: int | None = Field(default=None, sa_type=Number)
    instance_id: str = ""
    agent_id: str = ""
    generation: int = Field(default=0, sa_type=Number)
    attempt: int = Field(default=0, sa_type=Number)
    phase: str = ""
    outcome: str = ""
    duration_s: float | None = None
    code: str = ""
    message: str = Field(default="", sa_column=Column("message", Text, nullable=False))


class HistoryRow(Row, table=True):
    """What ran on an instance: one entry per ended task that was dispatched and one per unplanned change."""

    __tablename__ = "version_history"
    __table_args__ = (
        Index("ix_version_history_instance_id", "instance_id", "id"),
        Index("ix_version_history_live", "instance_id", "status", "at", "id"),
        Index("ix_version_history_service", "service", "instance_id"),
    )

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    instance_id: str
    service: str
    version: str
    sha256: str
    action: str
    status: str
    operation_id: str
    at: datetime = time_column()


class SourceRow(Row, table=True):
    """Where a version of a service was last deployed from: what a rollback without a URL downloads."""

    __tablename__ = "source"

    service: str = Field(primary_key=True)
    version: str = Field(primary_key=True)
    package_url: str = Field(sa_column=Column("package_url", Text, nullable=False))
    url_query: int | None = Field(default=None, sa_type=Number)
    sha256: str = Field(sa_column=Column("sha256", String(64), nullable=False))
    updated_at: datetime = time_column()


class UrlQueryRow(Row, table=True):
    """What follows the `?` of a package URL, sealed: presigned URLs are credentials."""

    __tablename__ = "url_query"

    id: int | None = Field(default=None, primary_key=True, sa_type=Number)
    sealed: str = Field(sa_column=Column("sealed", Text, nullable=False))


AGENT: Final[Table] = AgentRow.__table__  # type: ignore[attr-defined]
INSTANCE: Final[Table] = InstanceRow.__table__  # type: ignore[attr-defined]
OPERATION: Final[Table] = OperationRow.__table__  # type: ignore[attr-defined]
TASK: Final[Table] = TaskRow.__table__  # type: ignore[attr-defined]
EVENT: Final[Table] = EventRow.__table__  # type: ignore[attr-defined]
HISTORY: Final[Table] = HistoryRow.__table__  # type: ignore[attr-defined]
SOURCE: Final[Table] = SourceRow.__table__  # type: ignore[attr-defined]
URL_QUERY: Final[Table] = UrlQueryRow.__table__  # type: ignore[attr-defined]
