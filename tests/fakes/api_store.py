"""A store in memory that keeps the promises the API relies on: ids, conflicts, cancels. Nothing is carried
out."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from controller.core.acceptance import (
    Accepted,
    Cancelled,
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
from controller.core.refusals import (
    AlreadyEndedError,
    DeployIdConflictError,
    IdempotencyKeyConflictError,
    UnknownAgentError,
)
from controller.store import Changed
from releasehand.model import (
    ENDED,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelResult,
    DeployParams,
    DeployResult,
    DryRunResult,
    InstanceRollbackParams,
    MoveResult,
    OperationKind,
    Presence,
    RetireResult,
    RetryFailedParams,
    RollbackResult,
    Status,
)
from shared.frames import Active, Kept
from shared.source import Holding
from tests.fakes.api_operation import NOON, Operation, Params
from tests.fakes.api_views import FakeViews

ResultT = TypeVar("ResultT")


@dataclass
class FakeStore(FakeViews):
    """Takes orders for what its views tell."""

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
        service = self._service_of(params.instance_id)
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
