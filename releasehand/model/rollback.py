"""Rollbacks (spec: 接口参考 3.1–3.4, 设计文档 3.3)."""

from pydantic import Field

from .deployment import EndedAfter, InstanceIds, Progress, TaskStatus, TimeoutSeconds
from .fields import Answer, Name, OptionalDigest, OptionalPackageUrl, Request, TargetVersion, Time
from .status import RollbackType, Status

PREVIOUS = "previous"
"""The target that takes each instance to its own previous good version."""


class InstanceRollbackParams(Request):
    instance_id: Name
    target_version: TargetVersion
    package_url: OptionalPackageUrl = ""
    force: bool = Field(default=False, description="Supersede an open task; install even what is active.")
    timeout: TimeoutSeconds = Field(default=0, description="Seconds; 0 means 300.")
    package_sha256: OptionalDigest = ""


class BatchRollbackParams(Request):
    service: Name
    target_version: TargetVersion
    package_url: OptionalPackageUrl = ""
    instances: InstanceIds
    force: bool = Field(default=False, description="Supersede open tasks; install even what is active.")
    timeout: TimeoutSeconds = Field(default=0, description="Seconds for each instance; 0 means 300.")
    package_sha256: OptionalDigest = ""


class RollbackResult(Answer):
    rollback_id: str
    instance_id: str
    target_version: str
    status: Status
    started_at: Time


class BatchRollbackResult(Answer):
    rollback_id: str
    service: str
    target_version: str
    status: Status
    instances: list[str]
    total_instances: int
    started_at: Time


class RollbackStatus(Answer):
    rollback_id: str
    service: str
    target_version: str
    rollback_type: RollbackType
    status: Status
    progress: Progress
    instances: list[TaskStatus]
    started_at: Time
    completed_at: Time | None
    updated_at: Time
    cancelled_at: Time | None = None
    ended_after: EndedAfter = EndedAfter()
