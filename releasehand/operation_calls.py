"""Calls about deployments and rollbacks."""

import math
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from datetime import datetime
from typing import Final, TypeVar

from .connection import MAX_BACKOFF_S, PATIENCE_S, Trouble, page_query, segment
from .errors import ConnectionFailedError, UnavailableError, WaitTimeoutError
from .following import Following
from .model import (
    ENDED,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelParams,
    CancelResult,
    DeploymentList,
    DeployParams,
    DeployResult,
    DeployStatus,
    DryRunResult,
    InstanceRollbackParams,
    ReleaseEvent,
    ReleaseLog,
    RetryFailedParams,
    RollbackList,
    RollbackResult,
    RollbackStatus,
    RollbackType,
    Status,
    format_time,
)

LONG_POLL_S: Final = 30.0
WATCHED_PER_SECOND: Final = 500
"""A watcher of n instances asks every n/500 s, between 1 s and 30 s: a fleet's status is megabytes long."""

_DRY_RUN_PATHS: Final[Mapping[type, str]] = {
    DeployParams: "/v1/deployment",
    InstanceRollbackParams: "/v1/rollback/instance",
    BatchRollbackParams: "/v1/rollback/batch",
}

StatusT = TypeVar("StatusT", DeployStatus, RollbackStatus)


class OperationCalls(Following):
    """Deployments and rollbacks."""

    async def execute_deployment(self, params: DeployParams) -> DeployResult:
        """Start a deployment; the same `deploy_id` with the same body starts nothing new."""
        return await self._call("POST", "/v1/deployment", DeployResult, body=params)

    async def dry_run(
        self,
        params: DeployParams | InstanceRollbackParams | BatchRollbackParams,
        idempotency_key: str | None = None,
    ) -> DryRunResult:
        """What the call that takes these `params` would do to each instance. Nothing is started, no id used.

        A key tells a call that it would only repeat; only a rollback has one."""
        path = _DRY_RUN_PATHS[type(params)]
        query, key = {"dry_run": "true"}, "" if isinstance(params, DeployParams) else idempotency_key or ""
        return await self._call("POST", path, DryRunResult, body=params, query=query, key=key)

    async def get_deployment_status(self, deploy_id: str, *, wait_s: float = 0) -> DeployStatus:
        """The status, at once, or when it has ended or `wait_s` (at most 60) seconds have passed."""
        path = f"/v1/deployment/{segment(deploy_id)}"
        return await self._call("GET", path, DeployStatus, wait_s=wait_s)

    async def retry_failed(self, deploy_id: str, params: RetryFailedParams) -> DeployResult:
        """Deploy the same package again to the instances that failed, under the new id of `params`."""
        path = f"/v1/deployment/{segment(deploy_id)}/retry-failed"
        return await self._call("POST", path, DeployResult, body=params)

    async def cancel_deployment(self, deploy_id: str) -> CancelResult:
        """Ask for a cancel; instances past the point of no return still finish or go back."""
        path = f"/v1/deployment/{segment(deploy_id)}/cancel"
        return await self._call("POST", path, CancelResult, body=CancelParams())

    async def wait_for_deployment(
        self,
        deploy_id: str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[DeployStatus], None] | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> DeployStatus:
        """The final status of a deployment. Raises WaitTimeoutError when it is still open after `timeout_s`.

        `on_change` sees the first status and each different one; giving it asks more often. A controller that
        does not answer is told to `on_trouble`, asked again for 5 minutes, then the last error is raised."""
        return await self._wait(self.get_deployment_status, deploy_id, timeout_s, on_change, on_trouble)

    async def list_deployments(
        self,
        *,
        service: str = "",
        status: Status | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> DeploymentList:
        """One page (`limit` at most 1,000) of deployments, newest first; accepted from `since` on and before
        `until`, both aware times."""
        query = _operations_query(service, status, since, until, limit, offset)
        return await self._call("GET", "/v1/deployment", DeploymentList, query=query)

    async def get_deployment_events(
        self, deploy_id: str, *, after: int = 0, instance_id: str = "", limit: int = 100
    ) -> ReleaseLog:
        """One page (`limit` at most 1,000) of the release log: the events with an id greater than `after`."""
        path = f"/v1/deployment/{segment(deploy_id)}/events"
        return await self._call("GET", path, ReleaseLog, query=_log_query(after, instance_id, limit))

    def follow_deployment(
        self, deploy_id: str, *, after: int = 0, instance_id: str = ""
    ) -> AsyncIterator[ReleaseEvent]:
        """The events of the release log, as they are recorded, until the deployment has ended.

        It goes on by itself after a cut; a controller that is silent for 5 minutes ends it with the last
        error."""
        return self._follow(f"/v1/deployment/{segment(deploy_id)}/events", after, instance_id)

    async def rollback_instance(
        self, params: InstanceRollbackParams, idempotency_key: str | None = None
    ) -> RollbackResult:
        """Take one instance back. The same key with the same body starts nothing new."""
        path, key = "/v1/rollback/instance", idempotency_key or uuid.uuid4().hex
        return await self._call("POST", path, RollbackResult, body=params, key=key)

    async def rollback_batch(
        self, params: BatchRollbackParams, idempotency_key: str | None = None
    ) -> BatchRollbackResult:
        """Take several instances of a service back. The same key with the same body starts nothing new."""
        path, key = "/v1/rollback/batch", idempotency_key or uuid.uuid4().hex
        return await self._call("POST", path, BatchRollbackResult, body=params, key=key)

    async def get_rollback_status(self, rollback_id: str, *, wait_s: float = 0) -> RollbackStatus:
        """The status, at once, or when it has ended or `wait_s` (at most 60) seconds have passed."""
        path = f"/v1/rollback/{segment(rollback_id)}"
        return await self._call("GET", path, RollbackStatus, wait_s=wait_s)

    async def cancel_rollback(self, rollback_id: str) -> CancelResult:
        """Ask for a cancel; instances past the point of no return still finish or go back."""
        path = f"/v1/rollback/{segment(rollback_id)}/cancel"
        return await self._call("POST", path, CancelResult, body=CancelParams())

    async def wait_for_rollback(
        self,
        rollback_id: str,
        *,
        timeout_s: float | None = None,
        on_change: Callable[[RollbackStatus], None] | None = None,
        on_trouble: Callable[[Trouble], None] | None = None,
    ) -> RollbackStatus:
        """The final status of a rollback; all else as `wait_for_deployment`."""
        return await self._wait(self.get_rollback_status, rollback_id, timeout_s, on_change, on_trouble)

    async def list_rollbacks(
        self,
        *,
        service: str = "",
        status: Status | None = None,
        rollback_type: RollbackType | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        limit: int = 100,
        offset: int = 0,
    ) -> RollbackList:
        """One page (`limit` at most 1,000) of rollbacks, newest first; all else as `list_deployments`."""
        query = _operations_query(service, status, since, until, limit, offset)
        query |= {"rollback_type": rollback_type.value} if rollback_type else {}
        return await self._call("GET", "/v1/rollback", RollbackList, query=query)

    async def get_rollback_events(
        self, rollback_id: str, *, after: int = 0, instance_id: str = "", limit: int = 100
    ) -> ReleaseLog:
        """One page (`limit` at most 1,000) of the release log: the events with an id greater than `after`."""
        path = f"/v1/rollback/{segment(rollback_id)}/events"
        return await self._call("GET", path, ReleaseLog, query=_log_query(after, instance_id, limit))

    def follow_rollback(
        self, rollback_id: str, *, after: int = 0, instance_id: str = ""
    ) -> AsyncIterator[ReleaseEvent]:
        """As `follow_deployment`."""
        return self._follow(f"/v1/rollback/{segment(rollback_id)}/events", after, instance_id)

    async def _wait(
        self,
        poll: Callable[..., Awaitable[StatusT]],
        operation_id: str,
        timeout_s: float | None,
        on_change: Callable[[StatusT], None] | None,
        on_trouble: Callable[[Trouble], None] | None,
    ) -> StatusT:
        heard = self._clock.monotonic()
        deadline = math.inf if timeout_s is None else heard + timeout_s
        seen: StatusT | None = None
        wait_s = 0.0  # the first answer comes at once, so that a watcher has something to show
        while True:
            asked = self._clock.monotonic()
            try:
                status = await poll(operation_id, wait_s=wait_s)
            except (ConnectionFailedError, UnavailableError) as exc:
                failed_at = self._clock.monotonic()
                hopeless = seen is None and failed_at >= deadline
                if hopeless or not exc.retryable or failed_at - heard >= PATIENCE_S:
                    raise
                if on_trouble:
                    on_trouble(exc)
                wait_s, pause_s = 0.0, self._dice.uniform(0, MAX_BACKOFF_S)  # too many may hold long polls
            else:
                heard = self._clock.monotonic()
                if on_change and status != seen:
                    on_change(status)
                seen = status
                if status.status in ENDED:
                    return status
                # An answer that came sooner than asked for (no long polls here?) must not become a busy loop.
                pause_s = min(1.0, max(0.0, wait_s - (heard - asked)))
                wait_s = LONG_POLL_S
                if on_change:
                    wait_s = min(LONG_POLL_S, max(1.0, status.progress.total / WATCHED_PER_SECOND))
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise WaitTimeoutError(operation_id, timeout_s or 0.0, seen)
            wait_s = min(wait_s, left)
            if pause_s > 0:
                await self._clock.sleep(min(pause_s, left))


def _operations_query(
    service: str,
    status: Status | None,
    since: datetime | None,
    until: datetime | None,
    limit: int,
    offset: int,
) -> dict[str, str]:
    times = {"since": since and format_time(since), "until": until and format_time(until)}
    return page_query(limit, offset, service=service, status=status and status.value, **times)


def _log_query(after: int, instance_id: str, limit: int) -> dict[str, str]:
    query = {"after": str(after), "limit": str(limit)}
    return query | ({"instance_id": instance_id} if instance_id else {})
