"""What the API needs of the rest of the controller, declared by the one who uses it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Protocol

from aiohttp import web

from controller.bulletin import Bulletin
from controller.core.acceptance import Accepted, Cancelled, InstancePage
from controller.core.audit import Actor
from controller.core.written import Written
from controller.install import Installer
from controller.invitation import Invitations
from controller.store import Changed
from releasehand.model import (
    BatchRollbackParams,
    BatchRollbackResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    DryRunResult,
    InstanceRollbackParams,
    InstanceStatus,
    MoveResult,
    OperationKind,
    Period,
    RetireResult,
    RetryFailedParams,
    RollbackResult,
    RollbackStatus,
    ServiceInstances,
    ServiceVersions,
    SystemHealth,
    SystemStats,
    VersionHistory,
)
from shared.clock import Clock

from .leases import Leases
from .places import Places
from .rates import DEFAULT_LIMITS, FAILURE_LIMITS, RateLimits
from .uses import Uses
from .views import AccessStore, StoreViews

MAX_WAITERS: Final = 500
"""Calls with `?wait=` that may be open at once; each holds a connection and reads its rows again."""
MAX_STREAMS: Final = 200
MAX_STREAMS_OF_CALLER: Final = 100
MAX_DOWNLOADS: Final = 200
"""Hosts that may fetch a package at once; the others are told to come back, and callers keep their places."""
MAX_DOWNLOADS_OF_ADDRESS: Final = 100
KEEP_ALIVE_S: Final = 15.0
"""A stream without news says so this often: proxies cut what is silent for a minute."""
SLOW_READER_S: Final = 10.0
DOWNLOAD_S: Final = 900.0
"""A package of 28 MB is there by then at 32 kB/s."""
BODY_DEADLINE_S: Final = 30.0
"""A body that is not there so long after its head is not waited for."""


class ApiStore(StoreViews, AccessStore, Protocol):
    """The store, as the API sees it. Each method raises RefusalError or StoreUnavailableError and then
    changed nothing.

    What starts or cancels work is durable on return and may be cancelled only before it; reads may be at
    any time."""

    async def accept_deployment(self, params: DeployParams, *, actor: Actor) -> Accepted[DeployResult]:
        """Commit the operation and its tasks, or find the same one again under its deploy_id."""
        ...

    async def accept_retry(
        self, deploy_id: str, params: RetryFailedParams, *, actor: Actor
    ) -> Accepted[DeployResult]:
        """Commit a deployment to the instances on which `deploy_id` failed."""
        ...

    async def accept_instance_rollback(
        self,
        params: InstanceRollbackParams,
        *,
        actor: Actor,
        idempotency_key: str | None,
        within: frozenset[str],
    ) -> Accepted[RollbackResult]:
        """Raises ForbiddenError where the instance is of none of the services `within`, if any are named."""
        ...

    async def accept_batch_rollback(
        self, params: BatchRollbackParams, *, actor: Actor, idempotency_key: str | None
    ) -> Accepted[BatchRollbackResult]: ...

    async def foresee(
        self,
        params: DeployParams | InstanceRollbackParams | BatchRollbackParams,
        *,
        caller: str,
        idempotency_key: str | None = None,
    ) -> DryRunResult:
        """What the call would do. Nothing is written."""
        ...

    async def cancel(self, kind: OperationKind, operation_id: str, *, actor: Actor) -> Cancelled:
        """Record the cancel; a repeated one answers the first."""
        ...

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> Written[DeployStatus]: ...

    async def rollback_status(self, rollback_id: str, page: InstancePage) -> Written[RollbackStatus]: ...

    async def service_versions(self, service: str, *, include_stopped: bool) -> Written[ServiceVersions]: ...

    async def service_instances(
        self, service: str, *, status: InstanceStatus | None, version: str, limit: int, offset: int
    ) -> ServiceInstances:
        """`version` "" means any."""
        ...

    async def version_history(self, instance_id: str, *, limit: int, offset: int) -> VersionHistory: ...

    async def retire_instance(self, instance_id: str, *, actor: Actor) -> tuple[RetireResult, Changed]:
        """Take an instance out of lists and figures; a repeated call answers the first."""
        ...

    async def move_instance(self, instance_id: str, agent_id: str, *, actor: Actor) -> tuple[MoveResult, str]:
        """Give an instance to another agent; the answer, and who owned it before."""
        ...

    async def system_stats(self, period: Period) -> SystemStats: ...


def stream_places(total: int, of_caller: int) -> Places:
    """For streams of release logs."""
    return Places(total, of_caller, what="streams", instead="close one, or ask page by page with after")


@dataclass(frozen=True, slots=True)
class ApiDeps:
    """`wake` tells the dispatcher of new work, `tell` everybody of what has changed, `renew` has an agent say
    hello again; they return at once. `close_revoked` closes links whose certificates were revoked; it raises
    StoreUnavailableError. `tokens` maps the name of a caller in the configuration to its bearer
    token. `leases` and `uses` are run by whoever made them."""

    store: ApiStore
    wake: Callable[[Sequence[int]], None]
    tell: Callable[[Changed], None]
    renew: Callable[[str], None]
    close_revoked: Callable[[], Awaitable[None]]
    invitations: Invitations
    installer: Installer
    bulletin: Bulletin
    health: Callable[[], Awaitable[SystemHealth]]
    tokens: Mapping[str, str]
    leases: Leases
    uses: Uses
    clock: Clock
    version: str
    max_waiters: int = MAX_WAITERS
    streams: Places = field(default_factory=lambda: stream_places(MAX_STREAMS, MAX_STREAMS_OF_CALLER))
    downloads: Places = field(
        default_factory=lambda: Places(
            MAX_DOWNLOADS,
            MAX_DOWNLOADS_OF_ADDRESS,
            what="downloads",
            instead="come back in a few seconds",
        )
    )
    keep_alive_s: float = KEEP_ALIVE_S
    slow_reader_s: float = SLOW_READER_S
    download_s: float = DOWNLOAD_S
    history_kept: timedelta | None = None  # None: for ever
    rates: RateLimits = DEFAULT_LIMITS
    failure_rates: RateLimits = FAILURE_LIMITS
    body_deadline_s: float = BODY_DEADLINE_S
    dropped: Mapping[str, int] = field(default_factory=dict)  # reports, by why; a field of ReportFigures each

    def announce(self, accepted: Accepted[Any]) -> None:
        """Tell of what was accepted: the dispatcher of its tasks, and those who wait for operations that
        moved with it."""
        self.wake(accepted.task_ids)
        for kind, operation_id in accepted.changed:
            self.bulletin.publish(kind, operation_id)


DEPS: Final = web.AppKey("deps", ApiDeps)
