"""What schedulers and operators ask the store to do."""

import secrets
from dataclasses import replace
from datetime import datetime
from typing import Any

from sqlalchemy.engine import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.acceptance import (
    Accepted,
    Cancelled,
    Order,
    order_deployment,
    order_rollback,
    retry_failed,
)
from controller.core.audit import Actor, AuditEntry, Objects, describe
from controller.core.refusals import ForbiddenError
from releasehand.model import (
    AuditAction,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelResult,
    DeployParams,
    DeployResult,
    DryRunResult,
    InstanceRollbackParams,
    MoveResult,
    OperationKind,
    RetireResult,
    RetryFailedParams,
    RollbackResult,
    Status,
)

from . import acceptance, audit, cancellation, forecast, moves, operations, ownership
from .transactions import Transactions

A = AuditAction


class Orders(Transactions):
    """Each is one transaction, recorded on return."""

    async def accept_deployment(self, params: DeployParams, *, actor: Actor) -> Accepted[DeployResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._write(
            lambda conn, now: self._start(
                conn, order_deployment(params), actor, A.START_DEPLOYMENT, describe(params), now
            ),
            "accept",
        )
        return _deploy_result(row)

    async def accept_retry(
        self, deploy_id: str, params: RetryFailedParams, *, actor: Actor
    ) -> Accepted[DeployResult]:
        """Deploy again to the instances on which `deploy_id` failed; else as a deployment."""

        async def accept(conn: AsyncConnection, now: datetime) -> acceptance.AcceptedRow:
            past = await operations.read_past(conn, deploy_id)
            wanted = retry_failed(past, params)
            order = replace(order_deployment(wanted), query_row=past.query_row)
            return await self._start(conn, order, actor, A.RETRY_FAILED, describe(wanted, of=deploy_id), now)

        return _deploy_result(await self._write(accept, "retry"))

    async def accept_instance_rollback(
        self,
        params: InstanceRollbackParams,
        *,
        actor: Actor,
        idempotency_key: str | None,
        within: frozenset[str] = frozenset(),
    ) -> Accepted[RollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is: ForbiddenError where the
        instance is of none of the services `within`, if any are named."""
        row = await self._roll_back(params, A.ROLL_BACK_INSTANCE, actor, idempotency_key, within)
        result = RollbackResult(instance_id=params.instance_id, **_rollback_fields(row.operation))
        return Accepted(result, row.task_ids, row.repeated, row.changed)

    async def accept_batch_rollback(
        self, params: BatchRollbackParams, *, actor: Actor, idempotency_key: str | None
    ) -> Accepted[BatchRollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._roll_back(params, A.ROLL_BACK_BATCH, actor, idempotency_key)
        result = BatchRollbackResult(
            service=row.operation.service,
            instances=params.instances,
            total_instances=row.operation.instance_count,
            **_rollback_fields(row.operation),
        )
        return Accepted(result, row.task_ids, row.repeated, row.changed)

    async def _roll_back(
        self,
        params: InstanceRollbackParams | BatchRollbackParams,
        action: AuditAction,
        actor: Actor,
        idempotency_key: str | None,
        within: frozenset[str] = frozenset(),
    ) -> acceptance.AcceptedRow:
        async def accept(conn: AsyncConnection, now: datetime) -> acceptance.AcceptedRow:
            order = order_rollback(params, rollback_id)
            row = await self._start(conn, order, actor, action, objects, now, idempotency_key=idempotency_key)
            if within and row.operation.service not in within:  # asked again here: an instance may change
                raise ForbiddenError("cannot roll back this instance: it is of a service beyond the caller's")
            return row

        rollback_id = _new_rollback_id()
        objects = describe(params, rollback_id=rollback_id)
        return await self._write(accept, "accept")

    async def foresee(
        self,
        params: DeployParams | InstanceRollbackParams | BatchRollbackParams,
        *,
        caller: str,
        idempotency_key: str | None = None,
    ) -> DryRunResult:
        """What the call would do; nothing is written. Raises RefusalError where no instance is to blame."""
        order = order_deployment(params) if isinstance(params, DeployParams) else order_rollback(params, "")
        return await self._read(
            lambda conn: forecast.read_forecast(
                conn, order, caller=caller, idempotency_key=idempotency_key, now=self._clock.now()
            )
        )

    async def _start(
        self,
        conn: AsyncConnection,
        order: Order,
        actor: Actor,
        action: AuditAction,
        objects: Objects,
        now: datetime,
        *,
        idempotency_key: str | None = None,
    ) -> acceptance.AcceptedRow:
        """Accept and record who asked for it; a repeated call changes nothing and is not recorded again."""
        row = await acceptance.accept(
            conn,
            order,
            caller=actor.name,
            idempotency_key=idempotency_key,
            now=now,
            keyring=self._keyring,
        )
        if not row.repeated:
            entry = AuditEntry(now, actor, action, objects={"service": row.operation.service, **objects})
            await audit.record(conn, entry)
        return row

    async def cancel(self, kind: OperationKind, operation_id: str, *, actor: Actor) -> Cancelled:
        """Recorded on return. Raises UnknownOperationError, AlreadyEndedError."""
        status, cancelled_at, task_ids = await self._write(
            lambda conn, now: cancellation.cancel_operation(conn, kind, operation_id, actor, now), "cancel"
        )
        name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
        return Cancelled(
            CancelResult(**{name: operation_id}, status=status, cancelled_at=cancelled_at), task_ids
        )

    async def retire_instance(self, instance_id: str, *, actor: Actor) -> tuple[RetireResult, moves.Changed]:
        """Out of lists and figures on return; a repeated call answers the first. Raises
        UnknownInstanceError."""
        return await self._write(
            lambda conn, now: ownership.retire_by_hand(conn, instance_id, actor, now), "retire"
        )

    async def move_instance(self, instance_id: str, agent_id: str, *, actor: Actor) -> tuple[MoveResult, str]:
        """The new owner's on return; and the agent whose it was. Raises UnknownInstanceError,
        UnknownAgentError, InstanceBusyError."""
        return await self._write(
            lambda conn, now: ownership.move(conn, instance_id, agent_id, actor, now), "hand-over"
        )


def _new_rollback_id() -> str:
    """Sorts by nothing, guessed by nobody."""
    return f"rollback-{secrets.token_hex(12)}"


def _deploy_result(row: acceptance.AcceptedRow) -> Accepted[DeployResult]:
    result = DeployResult(
        deploy_id=row.operation.operation_id,
        service=row.operation.service,
        version=row.operation.version,
        status=Status(row.operation.status),
        total_instances=row.operation.instance_count,
        started_at=row.operation.accepted_at,
    )
    return Accepted(result, row.task_ids, row.repeated, row.changed)


def _rollback_fields(operation: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    return {
        "rollback_id": operation.operation_id,
        "target_version": operation.version,
        "status": Status(operation.status),
        "started_at": operation.accepted_at,
    }
