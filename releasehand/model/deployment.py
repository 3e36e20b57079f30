"""Deployments (spec: 接口参考 1.1–1.3, 设计文档 3.1), and what every operation's status has in common."""

from typing import Annotated

from pydantic import AfterValidator, Field

from .codes import FailureCode
from .fields import (
    MAX_INSTANCES,
    Answer,
    Empty,
    Name,
    OptionalDigest,
    PackageUrl,
    Request,
    Time,
    Version,
)
from .status import Phase, Status, TaskResult, WaitingFor

MAX_TIMEOUT_S = 86_400
MAX_RETRIES = 10
DEFAULT_TIMEOUT_S = 300
DEFAULT_RETRIES = 3
NO_RETRIES = -1


def _check_unique(value: list[str]) -> list[str]:
    if len(set(value)) != len(value):
        seen: set[str] = set()
        twice = next(name for name in value if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"instance '{twice}' is named more than once")
    return value


InstanceIds = Annotated[
    list[Name],
    Field(min_length=1, max_length=MAX_INSTANCES, json_schema_extra={"uniqueItems": True}),
    AfterValidator(_check_unique),
]
TimeoutSeconds = Annotated[int, Field(ge=0, le=MAX_TIMEOUT_S)]
RetryCount = Annotated[int, Field(ge=NO_RETRIES, le=MAX_RETRIES)]


class DeployParams(Request):
    """What to install, where. The zero value of an optional field means its default."""

    service: Name
    version: Version
    instances: InstanceIds
    package_url: PackageUrl
    deploy_id: Name
    timeout: TimeoutSeconds = Field(default=0, description="Seconds for each instance; 0 means 300.")
    retry_count: RetryCount = Field(default=0, description="Further attempts; 0 means 3, -1 means none.")
    package_sha256: OptionalDigest = ""


class RetryFailedParams(Request):
    """A new deployment of the same package to the instances on which another one failed."""

    deploy_id: Name
    timeout: TimeoutSeconds = Field(default=0, description="Seconds for each instance; 0 means as before.")
    retry_count: RetryCount = Field(default=0, description="Further attempts; 0 means as before, -1 none.")


class DeployResult(Answer):
    deploy_id: str
    service: str
    version: str
    status: Status
    total_instances: int
    started_at: Time


class Progress(Answer):
    """`pending` counts all open tasks; total = completed + failed + cancelled + pending."""

    total: int
    completed: int
    failed: int
    pending: int
    cancelled: int = 0
    in_progress: int = 0


class EndedAfter(Answer):
    """Seconds from acceptance until 50, 95 and 100 % of the instances had ended, in any outcome; null until
    then."""

    p50_s: float | None = None
    p95_s: float | None = None
    p100_s: float | None = None


class TaskStatus(Answer):
    """One instance's share of an operation. `version` and `current_version` are the live one."""

    instance_id: str
    status: Status
    version: str
    current_version: str
    target_version: str
    started_at: Time | None
    completed_at: Time | None
    updated_at: Time
    error_message: str
    error_code: FailureCode | Empty = ""
    phase: Phase | Empty = ""
    attempt: int = 0
    waiting_for: WaitingFor | Empty = ""
    result: TaskResult | Empty = ""
    bytes_done: int = 0
    bytes_total: int = 0


class DeployStatus(Answer):
    deploy_id: str
    service: str
    version: str
    status: Status
    progress: Progress
    instances: list[TaskStatus]
    started_at: Time
    updated_at: Time
    completed_at: Time | None = None
    cancelled_at: Time | None = None
    ended_after: EndedAfter = EndedAfter()


class CancelParams(Request):
    """Cancel takes no body or an empty object."""


class CancelResult(Answer):
    """The status at the moment of the cancel; the id of the other kind is empty."""

    deploy_id: str = ""
    rollback_id: str = ""
    status: Status
    cancelled_at: Time
