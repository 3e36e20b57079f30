"""What a list is asked for: which page, and what is let through. "" and None let everything through.

`within` are the services of a caller that is limited to some; empty: all."""

from dataclasses import dataclass
from datetime import datetime

from releasehand.model import InstanceStatus, Presence, RollbackType, Status


@dataclass(frozen=True, slots=True)
class Page:
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, slots=True)
class OperationFilter:
    """`since` and `until` are about when an operation was accepted: from `since` on, and before `until`."""

    service: str = ""
    status: Status | None = None
    since: datetime | None = None
    until: datetime | None = None
    rollback_type: RollbackType | None = None
    within: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class InstanceFilter:
    service: str = ""
    agent_id: str = ""
    status: InstanceStatus | None = None
    version: str = ""
    within: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class AgentFilter:
    """`name` is a part of the agent's id or of its host's name, in capitals or not. With `within`, an agent
    without an instance of those services is left out, and no other instance of it counts."""

    status: Presence | None = None
    name: str = ""
    within: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class LogPage:
    """The events after the one with the id `after`, of one instance if one is named."""

    after: int = 0
    limit: int = 100
    instance_id: str = ""
