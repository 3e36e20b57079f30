"""The words for where work stands, used by the API, the wire and the tables alike."""

from enum import StrEnum
from typing import Final


class Status(StrEnum):
    """Where an operation or one of its tasks stands (spec: 接口参考 1.2 状态说明)."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"


ENDED: Final = frozenset({Status.COMPLETED, Status.FAILED, Status.CANCELLED})
OPEN: Final = frozenset(Status) - ENDED


class OperationKind(StrEnum):
    DEPLOYMENT = "deployment"
    ROLLBACK = "rollback"


class RollbackType(StrEnum):
    INSTANCE = "instance"
    BATCH = "batch"


class Phase(StrEnum):
    """What an attempt is doing on its host; the moves between them are in shared.attempt."""

    QUEUED = "queued"
    DOWNLOADING = "downloading"
    VERIFYING = "verifying"
    UNPACKING = "unpacking"
    STAGED = "staged"
    ACTIVATING = "activating"
    CHECKING = "checking"
    REVERTING = "reverting"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    REVERTED = "reverted"
    BROKEN = "broken"


class WaitingFor(StrEnum):
    """Why an open task is not further."""

    AGENT_OFFLINE = "agent_offline"
    BEHIND_OTHER_TASK = "behind_other_task"
    RETRY_BACKOFF = "retry_backoff"
    AGENT_WORKING = "agent_working"
    CANCEL_CONFIRMATION = "cancel_confirmation"


class TaskResult(StrEnum):
    """How a completed task came to its end."""

    DOWNLOADED = "downloaded"
    KEPT = "kept"  # from the release kept on the host
    ALREADY_ACTIVE = "already_active"  # nothing was restarted
    UNVERIFIED_PROCESS = "unverified_process"  # the host runs no driver that could tell


class Outlook(StrEnum):
    """What a dry run says would happen to an instance."""

    FROM_DISK = "from_disk"  # the release that its host keeps would be activated
    DOWNLOAD = "download"
    ALREADY_ACTIVE = "already_active"  # nothing would be restarted
    IMPOSSIBLE = "impossible"


class Verdict(StrEnum):
    """What a dry run says of the call as a whole."""

    STARTS = "starts"
    REPEATS = "repeats"  # the same call was made before, and would be answered again
    REFUSED = "refused"  # because of some of its instances; nothing would be started


class ForecastCode(StrEnum):
    """Why a dry run calls an instance `impossible`."""

    UNKNOWN_INSTANCE = "unknown_instance"  # the call would be refused
    INSTANCE_BUSY = "instance_busy"  # the call would be refused
    NO_SOURCE = "no_source"  # its task would fail


class InstanceStatus(StrEnum):
    """What a caller sees of an instance (spec: 接口参考 2.2)."""

    RUNNING = "running"
    STOPPED = "stopped"
    ERROR = "error"


class ServiceState(StrEnum):
    """What the host's service driver says of the process."""

    RUNNING = "running"
    STOPPED = "stopped"
    FAILED = "failed"
    UNKNOWN = "unknown"  # no driver looks at the process, or it could not be asked


class Presence(StrEnum):
    """Whether an agent can be heard."""

    ONLINE = "online"
    SUSPECT = "suspect"
    OFFLINE = "offline"


class HistoryAction(StrEnum):
    DEPLOY = "deploy"
    ROLLBACK = "rollback"
    REVERT = "revert"
    DRIFT = "drift"
    ADOPT = "adopt"


class HistoryStatus(StrEnum):
    SUCCESS = "success"
    FAILED = "failed"
    UNKNOWN = "unknown"
    CANCELLED = "cancelled"


class HealthStatus(StrEnum):
    HEALTHY = "healthy"
    DEGRADED = "degraded"
    UNHEALTHY = "unhealthy"


class ComponentStatus(StrEnum):
    """How the database or the in-process live state does."""

    OK = "ok"
    DEGRADED = "degraded"
    DOWN = "down"


class Period(StrEnum):
    """The windows of GetSystemStats."""

    HOUR = "1h"
    DAY = "24h"
    WEEK = "7d"
    MONTH = "30d"
