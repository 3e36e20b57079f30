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
from releasehand.model import (
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

from . import acceptance, cancellation, forecast, moves, operations, ownership
from .transactions import Transactions


class Orders(Transactions):
    """Each is one transaction, recorded on return."""

    async def accept_deployment(self, params: DeployParams, *, caller: str) -> Accepted[DeployResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        return _deploy_result(await self._accept(order_deployment(params), caller, None))

    async def accept_retry(
        self, deploy_id: str, params: RetryFailedParams, *, caller: str
    ) -> Accepted[DeployResult]:
        """Deploy again to the instances on which `deploy_id` failed; else as a deployment."""

        async def accept(conn: AsyncConnection, now: datetime) -> acceptance.AcceptedRow:
            past = await operations.read_past(conn, deploy_id)
            wanted = retry_failed(past, params)
            order = replace(order_deployment(wanted), query_row=past.query_row)
            return await acceptance.accept(
                conn, order, caller=caller, idempotency_key=None, now=now, keyring=self._keyring
            )

        return _deploy_result(await self._write(accept, "retry"))

    async def accept_instance_rollback(
        self, params: InstanceRollbackParams, *, caller: str, idempotency_key: str | None
    ) -> Accepted[RollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._accept(order_rollback(params, _new_rollback_id()), caller, idempotency_key)
        result = RollbackResult(instance_id=params.instance_id, **_rollback_fields(row.operation))
        return Accepted(result, row.task_ids, row.repeated, row.changed)

    async def accept_batch_rollback(
        self, params: BatchRollbackParams, *, caller: str, idempotency_key: str | None
    ) -> Accepted[BatchRollbackResult]:
        """All of it is recorded on return, or a RefusalError says why none of it is."""
        row = await self._accept(order_rollback(params, _new_rollback_id()), caller, idempotency_key)
        result = BatchRollbackResult(
            service=row.operation.service,
            instances=params.instances,
            total_instances=row.operation.instance_count,
            **_rollback_fields(row.operation),
        )
        return Accepted(result, row.task_ids, row.repeated, row.changed)

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

    async def _accept(self, order: Order, caller: str, idempotency_key: str | None) -> acceptance.AcceptedRow:
        return await self._write(
            lambda conn, now: acceptance.accept(
                conn,
                order,
                caller=caller,
                idempotency_key=idempotency_key,
                now=now,
                keyring=self._keyring,
            ),
            "accept",
        )

    async def cancel(self, kind: OperationKind, operation_id: str, *, caller: str) -> Cancelled:
        """Recorded on return. Raises UnknownOperationError, AlreadyEndedError."""
        status, cancelled_at, task_ids = await self._write(
            lambda conn, now: cancellation.cancel_operation(conn, kind, operation_id, now), "cancel"
        )
        name = "deploy_id" if kind is OperationKind.DEPLOYMENT else "rollback_id"
        return Cancelled(
            CancelResult(**{name: operation_id}, status=status, cancelled_at=cancelled_at), task_ids
        )

    async def retire_instance(self, instance_id: str) -> tuple[RetireResult, moves.Changed]:
        """Out of lists and figures on return; a repeated call answers the first. Raises
        UnknownInstanceError."""
        return await self._write(lambda conn, now: ownership.retire_by_hand(conn, instance_id, now), "retire")

    async def move_instance(self, instance_id: str, agent_id: str) -> tuple[MoveResult, str]:
        """The new owner's on return; and the agent whose it was. Raises UnknownInstanceError,
        UnknownAgentError, InstanceBusyError."""
        return await self._write(
            lambda conn, now: ownership.move(conn, instance_id, agent_id, now), "hand-over"
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
