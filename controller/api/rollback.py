"""Rollbacks (spec: 接口参考 3.1–3.4)."""

from typing import Final

from controller.core.written import Written
from releasehand.model import (
    AuditAction,
    BatchRollbackParams,
    BatchRollbackResult,
    CancelParams,
    CancelResult,
    DryRunResult,
    ErrorType,
    InstanceRollbackParams,
    OperationKind,
    RollbackResult,
    RollbackStatus,
    Scope,
)

from .query import Query, StartQuery, StatusQuery
from .reach import by_body, by_instance_in_body, by_rollback
from .routing import NO_BODY, AnyRoute, Call, Route
from .waiting import read_status


async def rollback_instance(
    call: Call[InstanceRollbackParams, StartQuery],
) -> RollbackResult | DryRunResult:
    """Take one instance back to `target_version`, or to its own previous good version with `previous`.

    The release is taken from the host's disk if it is kept there, else from `package_url`, else from where
    that version came from last. Durable when it is answered. The same `Idempotency-Key` with the same body
    answers the same again and starts nothing.

    With `dry_run` nothing is changed: the answer, a DryRunResult, tells what would happen."""
    if call.query.dry_run:
        return await _foresee(call)
    accepted = await call.deps.store.accept_instance_rollback(
        call.body,
        actor=call.actor,
        idempotency_key=call.idempotency_key,
        within=call.grant.services,
    )
    call.deps.announce(accepted)
    return accepted.result


async def rollback_batch(
    call: Call[BatchRollbackParams, StartQuery],
) -> BatchRollbackResult | DryRunResult:
    """Take several instances of one service back to `target_version`; each has a result of its own.

    As for one instance; a member without a source fails alone. Either all instances are accepted or none.

    With `dry_run` nothing is changed: the answer, a DryRunResult, tells what would happen to each."""
    if call.query.dry_run:
        return await _foresee(call)
    accepted = await call.deps.store.accept_batch_rollback(
        call.body, actor=call.actor, idempotency_key=call.idempotency_key
    )
    call.deps.announce(accepted)
    return accepted.result


async def _foresee(
    call: Call[InstanceRollbackParams, StartQuery] | Call[BatchRollbackParams, StartQuery],
) -> DryRunResult:
    return await call.deps.store.foresee(
        call.body, caller=call.caller.name, idempotency_key=call.idempotency_key
    )


async def get_rollback_status(call: Call[None, StatusQuery]) -> Written[RollbackStatus]:
    """Tell how a rollback stands, in total and for each instance.

    With `wait` the answer comes when the rollback has ended, at the latest after that time."""
    return await read_status(call, OperationKind.ROLLBACK, call.deps.store.rollback_status)


async def cancel_rollback(call: Call[CancelParams, Query]) -> CancelResult:
    """Cancel what of a rollback is not past its point of no return; answers as CancelDeployment does."""
    cancelled = await call.deps.store.cancel(OperationKind.ROLLBACK, call.name, actor=call.actor)
    call.deps.wake(cancelled.task_ids)
    call.deps.bulletin.publish(OperationKind.ROLLBACK, call.name)
    return cancelled.result


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/rollback/instance",
        operation_id="RollbackInstance",
        tag="rollback",
        handler=rollback_instance,
        answer=RollbackResult,
        dry_answer=DryRunResult,
        query=StartQuery,
        body=InstanceRollbackParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_instance_in_body,
        action=AuditAction.ROLL_BACK_INSTANCE,
        takes_idempotency_key=True,
        refusals=(ErrorType.UNKNOWN_INSTANCE, ErrorType.IDEMPOTENCY_KEY_CONFLICT, ErrorType.INSTANCE_BUSY),
        example=InstanceRollbackParams(instance_id="instance-1", target_version="v1.2.2"),
    ),
    Route(
        method="POST",
        path="/v1/rollback/batch",
        operation_id="RollbackBatch",
        tag="rollback",
        handler=rollback_batch,
        answer=BatchRollbackResult,
        dry_answer=DryRunResult,
        query=StartQuery,
        body=BatchRollbackParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_body,
        action=AuditAction.ROLL_BACK_BATCH,
        takes_idempotency_key=True,
        refusals=(
            ErrorType.UNKNOWN_SERVICE,
            ErrorType.UNKNOWN_INSTANCE,
            ErrorType.IDEMPOTENCY_KEY_CONFLICT,
            ErrorType.INSTANCE_BUSY,
        ),
        example=BatchRollbackParams(
            service="user-service",
            target_version="v1.2.2",
            package_url="https://packages.example.com/user-service/v1.2.2.tar.gz",
            instances=["instance-1", "instance-2"],
        ),
    ),
    Route(
        method="GET",
        path="/v1/rollback/{rollback_id}",
        operation_id="GetRollbackStatus",
        tag="rollback",
        handler=get_rollback_status,
        answer=RollbackStatus,
        query=StatusQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_rollback,
        refusals=(ErrorType.UNKNOWN_ROLLBACK,),
    ),
    Route(
        method="POST",
        path="/v1/rollback/{rollback_id}/cancel",
        operation_id="CancelRollback",
        tag="rollback",
        handler=cancel_rollback,
        answer=CancelResult,
        query=Query,
        body=CancelParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_rollback,
        action=AuditAction.CANCEL_ROLLBACK,
        body_required=False,
        refusals=(ErrorType.UNKNOWN_ROLLBACK, ErrorType.ALREADY_ENDED),
        example=CancelParams(),
    ),
)
