"""Versions, instances and their history (spec: 接口参考 2.1–2.3, 设计文档 3.2)."""

from .fields import Answer, Name, Request, Time
from .status import HistoryAction, HistoryStatus, InstanceStatus


class InstanceVersion(Answer):
    instance_id: str
    version: str
    status: InstanceStatus
    last_updated: Time
    status_reason: str = ""


class ServiceVersions(Answer):
    """`version_summary` and `total_instances` count what is listed; no version counts under "".

    With `at` it is told what ran then; null means now."""

    service: str
    instances: list[InstanceVersion]
    version_summary: dict[str, int]
    total_instances: int
    updated_at: Time
    at: Time | None = None


class Drift(Answer):
    """What the controller recorded as live, and what the host has."""

    expected: str
    found: str


class Instance(Answer):
    instance_id: str
    host: str
    port: int
    status: InstanceStatus
    version: str
    last_heartbeat: Time | None
    metadata: dict[str, str]
    status_reason: str = ""
    agent_id: str = ""
    drift: Drift | None = None


class ServiceInstances(Answer):
    service: str
    instances: list[Instance]
    total: int
    limit: int
    offset: int


class HistoryEntry(Answer):
    """`version` is the attempted one; the live one for revert, drift and adopt."""

    version: str
    action: HistoryAction
    deploy_id: str
    timestamp: Time
    status: HistoryStatus


class VersionHistory(Answer):
    instance_id: str
    service: str
    history: list[HistoryEntry]
    total: int


class RetireResult(Answer):
    """`retired_at` is when it was retired first."""

    instance_id: str
    service: str
    agent_id: str
    retired_at: Time


class MoveParams(Request):
    """The agent that is to own the instance."""

    agent_id: Name


class MoveResult(Answer):
    """`moved_at` is null once `agent_id` has listed the instance: it is its owner then."""

    instance_id: str
    service: str
    agent_id: str
    moved_at: Time | None
