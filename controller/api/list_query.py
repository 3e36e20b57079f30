"""The query parameters of lists and of release logs."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from controller.core.audit import AuditFilter
from controller.core.lists import LogPage, OperationFilter, Page
from releasehand.model import (
    AuditAction,
    AuditOutcome,
    InstanceStatus,
    Name,
    Presence,
    RollbackType,
    Status,
    TokenStatus,
)

from .instants import Instant
from .query import DEFAULT_LIMIT, Limit, Offset, Query, read_number

MAX_EVENT_ID: Final = 10**18 - 1

EventId = Annotated[int, Field(ge=0, le=MAX_EVENT_ID), BeforeValidator(read_number)]
NamePart = Annotated[str, Field(pattern=r"^[A-Za-z0-9._+-]{1,128}$")]


class PageQuery(Query):
    """What every list takes."""

    limit: Limit = Field(default=0, description=f"At most so many; 0 means {DEFAULT_LIMIT}.")
    offset: Offset = Field(default=0, description="Leave out so many from the start.")

    @property
    def page(self) -> Page:
        return Page(self.limit or DEFAULT_LIMIT, self.offset)


class DeploymentsQuery(PageQuery):
    service: Name | None = Field(default=None, description="Only those of this service.")
    status: Status | None = Field(default=None, description="Only those of this status.")
    since: Instant | None = Field(default=None, description="Only those accepted at this time or later.")
    until: Instant | None = Field(default=None, description="Only those accepted before this time.")

    @property
    def wanted(self) -> OperationFilter:
        return OperationFilter(self.service or "", self.status, self.since, self.until)


class RollbacksQuery(PageQuery):
    service: Name | None = Field(default=None, description="Only those of this service.")
    status: Status | None = Field(default=None, description="Only those of this status.")
    since: Instant | None = Field(default=None, description="Only those accepted at this time or later.")
    until: Instant | None = Field(default=None, description="Only those accepted before this time.")
    rollback_type: RollbackType | None = Field(default=None, description="Only those of this type.")

    @property
    def wanted(self) -> OperationFilter:
        return OperationFilter(self.service or "", self.status, self.since, self.until, self.rollback_type)


class ServicesQuery(PageQuery):
    name: NamePart | None = Field(default=None, description="Only services with this in their name.")


class FleetQuery(PageQuery):
    service: Name | None = Field(default=None, description="Only instances of this service.")
    agent_id: Name | None = Field(default=None, description="Only instances of this agent.")
    status: InstanceStatus | None = Field(default=None, description="Only instances of this status.")
    version: Name | None = Field(default=None, description="Only instances on which this version is live.")


class AgentsQuery(PageQuery):
    status: Presence | None = Field(default=None, description="Only agents of this presence.")
    name: NamePart | None = Field(
        default=None, description="Only agents with this in their id or in their host's name."
    )


class TokensQuery(PageQuery):
    status: TokenStatus | None = Field(default=None, description="Only tokens of this status.")


class AuditQuery(PageQuery):
    actor: NamePart | None = Field(
        default=None, description="Only what this caller, agent or account did or tried."
    )
    action: AuditAction | None = Field(default=None, description="Only this action.")
    outcome: AuditOutcome | None = Field(default=None, description="Only this outcome.")
    since: Instant | None = Field(default=None, description="Only what was recorded at this time or later.")
    until: Instant | None = Field(default=None, description="Only what was recorded before this time.")

    @property
    def wanted(self) -> AuditFilter:
        return AuditFilter(self.actor or "", self.action, self.outcome, self.since, self.until)


class EventsQuery(Query):
    after: EventId = Field(default=0, description="Only events with a greater id; 0 means all.")
    limit: Limit = Field(default=0, description=f"At most so many events; 0 means {DEFAULT_LIMIT}.")
    instance_id: Name | None = Field(default=None, description="Only events of this instance.")

    def page(self, last_event_id: int | None) -> LogPage:
        after = self.after if last_event_id is None else last_event_id
        return LogPage(after, self.limit or DEFAULT_LIMIT, self.instance_id or "")
