"""One view of a deployment's and a rollback's status, and the words for where each instance stands."""

import shlex
from dataclasses import dataclass
from typing import Final

from releasehand.model import (
    DeployStatus,
    Progress,
    RollbackStatus,
    Status,
    TaskResult,
    TaskStatus,
    WaitingFor,
)

from .terminal import megabytes

_WAITING: Final = {
    WaitingFor.AGENT_OFFLINE: "agent offline",
    WaitingFor.BEHIND_OTHER_TASK: "behind another task",
    WaitingFor.RETRY_BACKOFF: "waiting to try again",
    WaitingFor.CANCEL_CONFIRMATION: "cancelling",
}
"""`agent_working` is missing: the phase says more."""


@dataclass(frozen=True)
class Operation:
    """What both kinds have in common. `kind` is `deployment` or `rollback`."""

    kind: str
    id: str
    service: str
    target: str
    answer: DeployStatus | RollbackStatus

    @property
    def status(self) -> Status:
        return self.answer.status

    @property
    def progress(self) -> Progress:
        return self.answer.progress

    @property
    def tasks(self) -> list[TaskStatus]:
        return self.answer.instances

    @property
    def took_s(self) -> float:
        """Seconds by the controller's clock from acceptance to the end, or to the last change."""
        end = self.answer.completed_at or self.answer.updated_at
        return (end - self.answer.started_at).total_seconds()

    def command(self, verb: str) -> str:
        """What to type to `status` or `cancel` it."""
        flag = " --rollback" if self.kind == "rollback" else ""
        wait = " --wait" if verb == "status" else ""
        return f"releasehand {verb} {shlex.quote(self.id)}{flag}{wait}"


def view(answer: DeployStatus | RollbackStatus) -> Operation:
    if isinstance(answer, DeployStatus):
        return Operation("deployment", answer.deploy_id, answer.service, answer.version, answer)
    return Operation("rollback", answer.rollback_id, answer.service, answer.target_version, answer)


def stage(task: TaskStatus) -> str:
    """Where a task stands, in one or two words."""
    if task.status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}:
        return task.status.value
    if task.waiting_for and task.waiting_for in _WAITING:
        return _WAITING[task.waiting_for]
    return task.phase.value if task.phase else "waiting"


def live(task: TaskStatus) -> str:
    return f"runs {task.current_version}" if task.current_version else "nothing installed"


def reason(task: TaskStatus) -> str:
    """Why a task failed: code and message."""
    return ": ".join(part for part in (task.error_code, task.error_message) if part) or "no reason given"


def remark(task: TaskStatus) -> str:
    """What is worth knowing beside the stage; "" if nothing is."""
    match task.status:
        case Status.FAILED:
            return f"{live(task)}; {reason(task)}"
        case Status.CANCELLED:
            return live(task)
        case Status.COMPLETED:
            return f"{live(task)} already" if task.result is TaskResult.ALREADY_ACTIVE else live(task)
        case Status.PENDING | Status.IN_PROGRESS:
            parts = [f"attempt {task.attempt}"] if task.attempt > 1 else []
            if task.phase == "downloading" and task.bytes_done and task.waiting_for not in _WAITING:
                parts.append(megabytes(task.bytes_done, task.bytes_total))
            return ", ".join(parts)
