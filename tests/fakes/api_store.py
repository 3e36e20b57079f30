"""A store in memory that keeps the promises the API relies on: ids, conflicts, cancels. Nothing is carried
out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

from controller.core.acceptance import (
    Accepted,
    Cancelled,
    InstancePage,
    PastDeployment,
    fingerprint,
    first_difference,
    order_deployment,
    order_rollback,
    retry_failed,
)
from controller.core.audit import Actor
from controller.core.destination import choose_releases, choose_targets
from controller.core.forecast import Candidate, Situation, foresee
from controller.core.lists import LogPage
from controller.core.refusals import (
    AlreadyEndedError,
    DeployIdConflictError,
    Holder,
    IdempotencyKeyConflictError,
    InstanceBusyError,
    UnknownAgentError,
    UnknownInstanceError,
    UnknownOperationError,
    UnknownServiceError,
)
from controller.core.written import Written
from controller.store import Changed
from releasehand.model import (
    ENDED,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    DryRunResult,
    HistoryAction,
    HistoryEntry,
    HistoryStatus,
    Instance,
    InstanceCounts,
    InstanceRollbackParams,
    InstanceStatus,
    InstanceVersion,
    MoveResult,
    OperationCounts,
    OperationKind,
    Period,
    Presence,
    ReleaseLog,
    RetireResult,
    RetryFailedParams,
    RollbackResult,
    RollbackStatus,
    RollbackType,
    ServiceInstances,
    ServiceVersions,
    Status,
    SystemStats,
    VersionHistory,
)
from shared.frames import Active, Kept
from shared.source import Holding
from tests.fakes.api_access import FakeAccess
from tests.fakes.api_operation import NOON, Operation, Params, progress_of, tasks_of, write

ResultT = TypeVar("ResultT")


@dataclass
class FakeStore(FakeAccess):
    """Has one service, `user-service`, with `instance-1` to `instance-3` on v1.0.0. `raises` is raised by
    each call."""

    services: dict[str, dict[str, str]] = field(
        default_factory=lambda: {"user-service": {f"instance-{n}": "v1.0.0" for n in (1, 2, 3)}}
    )
    operations: dict[tuple[OperationKind, str], Operation] = field(default_factory=dict)
    keys: dict[str, str] = field(default_factory=dict)
    force_ends: list[tuple[OperationKind, str]] = field(default_factory=list)  # by the next forced rollback

    def end(self, kind: OperationKind, operation_id: str, status: Status = Status.COMPLETED) -> None:
        self.operations[kind, operation_id].status = status

    async def accept_deployment(self, params: DeployParams, *, actor: Actor) -> Accepted[DeployResult]:
        self._note("accept_deployment", params)
        known = self.operations.get((OperationKind.DEPLOYMENT, params.deploy_id))
        if known is not None:
            different = first_difference(fingerprint(known.params), fingerprint(params))
            if different is not None:
                raise DeployIdConflictError(params.deploy_id, different)
        else:
            self._check(params.service, params.instances)
            self._check_free(params.instances)
            known = Operation(
                OperationKind.DEPLOYMENT,
                params.deploy_id,
                params,
                params.service,
                params.version,
                params.instances,
                actor.name,
            )
        result = DeployResult(
            deploy_id=params.deploy_id,
            service=params.service,
            version=params.version,
            status=known.status,
            total_instances=len(params.instances),
            started_at=NOON,
        )
        return self._accepted(known, result)

    async def accept_retry(
        self, deploy_id: str, params: RetryFailedParams, *, actor: Actor
    ) -> Accepted[DeployResult]:
        """All or none of a deployment's instances have failed."""
        self._note("accept_retry", deploy_id, params)
        known = self._find(OperationKind.DEPLOYMENT, deploy_id)
        assert isinstance(known.params, DeployParams)
        past = PastDeployment(
            deploy_id=deploy_id,
            status=known.status,
            service=known.service,
            version=known.version,
            package_url=known.params.package_url,
            query_row=None,
            package_sha256=known.params.package_sha256,
            timeout_s=known.params.timeout,
            retries=known.params.retry_count,
            failed=known.instances if known.status is Status.FAILED else [],
        )
        return await self.accept_deployment(retry_failed(past, params), actor=actor)

    async def accept_instance_rollback(
        self,
        params: InstanceRollbackParams,
        *,
        actor: Actor,
        idempotency_key: str | None,
        within: frozenset[str] = frozenset(),
    ) -> Accepted[RollbackResult]:
        self._note("accept_instance_rollback", params, idempotency_key)
        service = next((name for name, has in self.services.items() if params.instance_id in has), None)
        if service is None:
            raise UnknownInstanceError([params.instance_id])
        rollback = self._rollback(params, service, [params.instance_id], actor.name, idempotency_key)
        result = RollbackResult(
            rollback_id=rollback.operation_id,
            instance_id=params.instance_id,
            target_version=params.target_version,
            status=rollback.status,
            started_at=NOON,
        )
        return self._accepted(rollback, result)

    async def accept_batch_rollback(
        self, params: BatchRollbackParams, *, actor: Actor, idempotency_key: str | None
    ) -> Accepted[BatchRollbackResult]:
        self._note("accept_batch_rollback", params, idempotency_key)
        self._check(params.service, params.instances)
        rollback = self._rollback(params, params.service, params.instances, actor.name, idempotency_key)
        result = BatchRollbackResult(
            rollback_id=rollback.operation_id,
            service=params.service,
            target_version=params.target_version,
            status=rollback.status,
            instances=params.instances,
            total_instances=len(params.instances),
            started_at=NOON,
        )
        return self._accepted(rollback, result)

    async def foresee(
        self, params: Params, *, caller: str, idempotency_key: str | None = None
    ) -> DryRunResult:
        """Hosts keep what they run, and nothing else."""
        self._note("foresee", params, caller, idempotency_key)
        order = order_deployment(params) if isinstance(params, DeployParams) else order_rollback(params, "")
        service = order.service or next(iter(self.services))
        live = {name: version for name, version in self._service(service).items() if name in order.instances}
        busy = self._holders(list(live))
        situation = Situation(
            service=service,
            candidates={name: _candidate(version) for name, version in live.items()},
            holders={holder.instance_id: holder for holder in busy},
            behind=frozenset(),
            targets=choose_targets(order, choose_releases(order, {}), {}),
        )
        return foresee(order, situation)

    async def cancel(self, kind: OperationKind, operation_id: str, *, actor: Actor) -> Cancelled:
        self._note("cancel", kind, operation_id, actor.name)
        operation = self._find(kind, operation_id)
        if operation.cancelled_at is None:
            if operation.status in ENDED:
                raise AlreadyEndedError(kind, operation_id, operation.status)
            operation.cancelled_at, operation.status = NOON, Status.CANCELLED
        ids = (
            {"deploy_id": operation_id} if kind is OperationKind.DEPLOYMENT else {"rollback_id": operation_id}
        )
        result = CancelResult(status=operation.status, cancelled_at=operation.cancelled_at, **ids)
        return Cancelled(result, [7])

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> Written[DeployStatus]:
        self._note("deploy_status", deploy_id, page)
        operation = self._find(OperationKind.DEPLOYMENT, deploy_id)
        answer = DeployStatus(
            deploy_id=deploy_id,
            service=operation.service,
            version=operation.version,
            status=operation.status,
            progress=progress_of(operation),
            instances=tasks_of(operation, page),
            started_at=NOON,
            updated_at=NOON,
        )
        return write(answer)

    async def rollback_status(self, rollback_id: str, page: InstancePage) -> Written[RollbackStatus]:
        self._note("rollback_status", rollback_id, page)
        operation = self._find(OperationKind.ROLLBACK, rollback_id)
        single = isinstance(operation.params, InstanceRollbackParams)
        answer = RollbackStatus(
            rollback_id=rollback_id,
            service=operation.service,
            target_version=operation.version,
            rollback_type=RollbackType.INSTANCE if single else RollbackType.BATCH,
            status=operation.status,
            progress=progress_of(operation),
            instances=tasks_of(operation, page),
            started_at=NOON,
            completed_at=None,
            updated_at=NOON,
        )
        return write(answer)

    async def service_versions(self, service: str, *, include_stopped: bool) -> Written[ServiceVersions]:
        self._note("service_versions", service, include_stopped)
        versions = self._service(service)
        summary: dict[str, int] = {}
        for version in versions.values():
            summary[version] = summary.get(version, 0) + 1
        answer = ServiceVersions(
            service=service,
            instances=[
                InstanceVersion(
                    instance_id=name, version=version, status=InstanceStatus.RUNNING, last_updated=NOON
                )
                for name, version in versions.items()
            ],
            version_summary=summary,
            total_instances=len(versions),
            updated_at=NOON,
        )
        return write(answer)

    async def service_instances(
        self, service: str, *, status: InstanceStatus | None, version: str, limit: int, offset: int
    ) -> ServiceInstances:
        self._note("service_instances", service, status, version, limit, offset)
        listed = [
            Instance(
                instance_id=name,
                host="host-1",
                port=8080,
                status=InstanceStatus.RUNNING,
                version=live,
                last_heartbeat=NOON,
                metadata={},
            )
            for name, live in self._service(service).items()
            if version in {"", live} and status in {None, InstanceStatus.RUNNING}
        ]
        page = listed[offset : offset + limit]
        return ServiceInstances(
            service=service, instances=page, total=len(listed), limit=limit, offset=offset
        )

    async def version_history(self, instance_id: str, *, limit: int, offset: int) -> VersionHistory:
        self._note("version_history", instance_id, limit, offset)
        service = next((name for name, has in self.services.items() if instance_id in has), None)
        if service is None:
            raise UnknownInstanceError([instance_id])
        entry = HistoryEntry(
            version="v1.0.0",
            action=HistoryAction.DEPLOY,
            deploy_id="deploy-0",
            timestamp=NOON,
            status=HistoryStatus.SUCCESS,
        )
        page = [entry][offset : offset + limit]
        return VersionHistory(instance_id=instance_id, service=service, history=page, total=1)

    async def retire_instance(self, instance_id: str, *, actor: Actor) -> tuple[RetireResult, Changed]:
        self._note("retire_instance", instance_id)
        service = self._service_of(instance_id)
        result = RetireResult(instance_id=instance_id, service=service, agent_id="agent-1", retired_at=NOON)
        return result, Changed()

    async def move_instance(self, instance_id: str, agent_id: str, *, actor: Actor) -> tuple[MoveResult, str]:
        """All of them are agent-1's."""
        self._note("move_instance", instance_id, agent_id)
        service = self._service_of(instance_id)
        if agent_id not in {"agent-1", "agent-2"}:
            raise UnknownAgentError(agent_id)
        self._check_free([instance_id])
        moved_at = None if agent_id == "agent-1" else NOON
        result = MoveResult(instance_id=instance_id, service=service, agent_id=agent_id, moved_at=moved_at)
        return result, "agent-1"

    def _service_of(self, instance_id: str) -> str:
        for service, instances in self.services.items():
            if instance_id in instances:
                return service
        raise UnknownInstanceError([instance_id])

    async def find_service(self, kind: OperationKind, operation_id: str) -> str | None:
        self._answer()
        known = self.operations.get((kind, operation_id))
        return known.service if known else None

    async def find_service_of_instance(self, instance_id: str) -> str | None:
        self._answer()
        return next((name for name, has in self.services.items() if instance_id in has), None)

    async def service_versions_at(
        self, service: str, at: datetime, *, include_stopped: bool
    ) -> ServiceVersions:
        self._note("service_versions_at", service, at, include_stopped)
        now = await self.service_versions(service, include_stopped=include_stopped)
        return now.read().model_copy(update={"at": at})

    async def release_log(self, kind: OperationKind, operation_id: str, page: LogPage) -> ReleaseLog:
        self._note("release_log", kind, operation_id, page)
        operation = self._find(kind, operation_id)
        listed = [event for event in operation.log if event.id > page.after]
        listed = [event for event in listed if page.instance_id in {"", event.instance_id}]
        events = listed[: page.limit]
        name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
        return ReleaseLog(
            **{name: operation_id},
            status=operation.status,
            events=events,
            next_after=events[-1].id if events else page.after,
            has_more=len(listed) > page.limit,
        )

    async def system_stats(self, period: Period) -> SystemStats:
        self._note("system_stats", period)
        none = OperationCounts(total=0, success=0, failed=0, success_rate=0.0)
        return SystemStats(
            period=period,
            deployments=none,
            rollbacks=none,
            instances=InstanceCounts(total=3, healthy=3, unhealthy=0),
            timestamp=NOON,
        )

    def _service(self, service: str) -> dict[str, str]:
        if service not in self.services:
            raise UnknownServiceError(service)
        return self.services[service]

    def _check(self, service: str, instances: Sequence[str]) -> None:
        unknown = [name for name in instances if name not in self._service(service)]
        if unknown:
            raise UnknownInstanceError(unknown, service)

    def _check_free(self, instances: Sequence[str]) -> None:
        if busy := self._holders(instances):
            raise InstanceBusyError(busy)

    def _holders(self, instances: Sequence[str]) -> list[Holder]:
        return [
            Holder(name, operation.kind, operation.operation_id)
            for operation in self.operations.values()
            for name in operation.instances
            if operation.status not in ENDED and name in instances
        ]

    def _find(self, kind: OperationKind, operation_id: str) -> Operation:
        if (kind, operation_id) not in self.operations:
            raise UnknownOperationError(kind, operation_id)
        return self.operations[kind, operation_id]

    def _rollback(
        self,
        params: InstanceRollbackParams | BatchRollbackParams,
        service: str,
        instances: Sequence[str],
        caller: str,
        key: str | None,
    ) -> Operation:
        if key is not None and key in self.keys:
            known = self.operations[OperationKind.ROLLBACK, self.keys[key]]
            different = first_difference(fingerprint(known.params), fingerprint(params))
            if different is not None:
                raise IdempotencyKeyConflictError(different)
            return known
        if not params.force:
            self._check_free(instances)
        for topic in self.force_ends:
            self.end(*topic, Status.CANCELLED)
        rollback_id = f"rollback-{len(self.operations) + 1}"
        if key is not None:
            self.keys[key] = rollback_id
        return Operation(
            OperationKind.ROLLBACK, rollback_id, params, service, params.target_version, instances, caller
        )

    def _accepted(self, operation: Operation, result: ResultT) -> Accepted[ResultT]:
        topic = (operation.kind, operation.operation_id)
        repeated = topic in self.operations
        self.operations[topic] = operation
        changed, self.force_ends = self.force_ends, []
        task_ids = [] if repeated else list(range(1, len(operation.instances) + 1))
        return Accepted(result, task_ids, repeated=repeated, changed=changed)


def _candidate(version: str) -> Candidate:
    release = Kept(release=version, version=version, sha256="a" * 64, good=True)
    active = Active(release=version, version=version, sha256=release.sha256)
    return Candidate(Holding(active, [release]), Presence.ONLINE, outcome_unknown=False)
