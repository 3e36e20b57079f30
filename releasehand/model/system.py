"""Health and figures of the system (spec: 接口参考 4.1–4.2)."""

from pydantic import Field

from .fields import Answer, Time
from .status import ComponentStatus, HealthStatus, Period


class SystemHealth(Answer):
    """`cache` is the controller's in-process live state; `causes` name what is not well."""

    status: HealthStatus
    version: str
    uptime: str
    database: ComponentStatus
    cache: ComponentStatus
    timestamp: Time
    causes: list[str] = Field(default_factory=list)


class OperationCounts(Answer):
    """Operations that ended in the period. total = success + failed + cancelled; rate over success +
    failed."""

    total: int
    success: int
    failed: int
    success_rate: float
    cancelled: int = 0


class InstanceCounts(Answer):
    total: int
    healthy: int
    unhealthy: int


class SystemStats(Answer):
    period: Period
    deployments: OperationCounts
    rollbacks: OperationCounts
    instances: InstanceCounts
    timestamp: Time
