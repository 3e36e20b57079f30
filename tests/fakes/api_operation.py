"""An operation as the store in memory keeps it, and what its status tells."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from controller.core.acceptance import InstancePage
from controller.core.written import Written
from releasehand.model import (
    ENDED,
    BatchRollbackParams,
    DeployParams,
    DeployStatus,
    InstanceRollbackParams,
    OperationKind,
    Progress,
    ReleaseEvent,
    RollbackStatus,
    ServiceVersions,
    Status,
    TaskStatus,
)

NOON: Final = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
AnswerT = TypeVar("AnswerT", DeployStatus, RollbackStatus, ServiceVersions)
Params = DeployParams | InstanceRollbackParams | BatchRollbackParams


@dataclass
class Operation:
    kind: OperationKind
    operation_id: str
    params: Params
    service: str
    version: str
    instances: Sequence[str]
    caller: str
    status: Status = Status.PENDING
    cancelled_at: datetime | None = None
    log: list[ReleaseEvent] = field(default_factory=list)


def progress_of(operation: Operation) -> Progress:
    total = len(operation.instances)
    return Progress(
        total=total,
        completed=total if operation.status is Status.COMPLETED else 0,
        failed=total if operation.status is Status.FAILED else 0,
        pending=0 if operation.status in ENDED else total,
        cancelled=total if operation.status is Status.CANCELLED else 0,
    )


def tasks_of(operation: Operation, page: InstancePage) -> list[TaskStatus]:
    listed = [
        TaskStatus(
            instance_id=name,
            status=operation.status,
            version="v1.0.0",
            current_version="v1.0.0",
            target_version=operation.version,
            started_at=None,
            completed_at=None,
            updated_at=NOON,
            error_message="",
        )
        for name in operation.instances
        if page.status in {None, operation.status}
    ]
    end = None if page.limit is None else page.offset + page.limit
    return listed[page.offset : end]


def write(answer: AnswerT) -> Written[AnswerT]:
    """An answer with its list as the database would have written it."""
    listed = [one.model_dump(mode="json") for one in answer.instances]
    return Written(answer.model_copy(update={"instances": []}), json.dumps(listed))
