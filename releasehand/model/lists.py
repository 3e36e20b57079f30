"""Lists of operations, services, instances and agents: pages of what a filter lets through."""

from .fields import Answer, Time
from .instance import Instance
from .status import Presence, RollbackType, Status


class DeploymentSummary(Answer):
    deploy_id: str
    service: str
    version: str
    status: Status
    total_instances: int
    started_at: Time
    updated_at: Time
    completed_at: Time | None
    cancelled_at: Time | None


class DeploymentList(Answer):
    """Newest first. `total` counts what the filter lets through, over all pages, here and in every list."""

    deployments: list[DeploymentSummary]
    total: int
    limit: int
    offset: int


class RollbackSummary(Answer):
    rollback_id: str
    service: str
    target_version: str
    rollback_type: RollbackType
    status: Status
    total_instances: int
    started_at: Time
    updated_at: Time
    completed_at: Time | None
    cancelled_at: Time | None


class RollbackList(Answer):
    """Newest first."""

    rollbacks: list[RollbackSummary]
    total: int
    limit: int
    offset: int


class ServiceSummary(Answer):
    """`version_summary` counts the instances by their live version, as in ServiceVersions."""

    service: str
    total_instances: int
    running: int
    stopped: int
    error: int
    version_summary: dict[str, int]


class ServiceList(Answer):
    """By name."""

    services: list[ServiceSummary]
    total: int
    limit: int
    offset: int


class ListedInstance(Instance):
    service: str
    last_updated: Time


class InstanceList(Answer):
    """By id."""

    instances: list[ListedInstance]
    total: int
    limit: int
    offset: int


class Agent(Answer):
    """`status_since` is when `status` became what it is; retired instances do not count."""

    agent_id: str
    host: str
    version: str
    status: Presence
    status_since: Time
    first_seen: Time
    last_heartbeat: Time
    total_instances: int
    rejected_reports: int
    metadata: dict[str, str]


class AgentList(Answer):
    """By id."""

    agents: list[Agent]
    total: int
    limit: int
    offset: int
