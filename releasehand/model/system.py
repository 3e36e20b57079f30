"""Health and figures of the system (spec: 接口参考 4.1–4.2)."""

from pydantic import Field

from .fields import Answer, Time
from .status import ComponentStatus, HealthStatus, Period, Phase


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


class Durations(Answer):
    """Seconds, by nearest rank: p95 is the smallest of `count` durations that 95 % of them do not exceed.
    Null where there are none."""

    count: int = 0
    p50_s: float | None = None
    p95_s: float | None = None
    p99_s: float | None = None


class FailureCount(Answer):
    """How many tasks failed with a code."""

    code: str
    count: int


class TaskFigures(Answer):
    """Tasks (an instance's share of an operation) that ended in the period, in any outcome.

    The durations are those of `timed` tasks: of all up to 5,000, above that of about 5,000 that are chosen
    evenly. `total` is from acceptance to end. `phases` has each phase that one of them left, in any attempt,
    as far as the release log is kept. `failures` are counted in all tasks: the ten most frequent codes, most
    frequent first."""

    ended: int = 0
    timed: int = 0
    total: Durations = Durations()
    phases: dict[Phase, Durations] = Field(default_factory=dict)
    failures: list[FailureCount] = Field(default_factory=list)


class ReportFigures(Answer):
    """Reports of agents that changed nothing.

    `rejected` told what cannot be, such as the end of another agent's task; they are counted for as long as
    their agents are known, and a list of agents tells whose they are. The others are nobody's fault and are
    counted since this controller's start: those of a session that was over, and copies or what came out of
    order."""

    rejected: int = 0
    closed_session: int = 0
    out_of_order: int = 0


class SystemStats(Answer):
    period: Period
    deployments: OperationCounts
    rollbacks: OperationCounts
    instances: InstanceCounts
    timestamp: Time
    tasks: TaskFigures = TaskFigures()
    reports: ReportFigures = ReportFigures()
