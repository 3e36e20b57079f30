"""Deployments (spec: 接口参考 1.1–1.3)."""

from typing import Final

from controller.core.written import Written
from releasehand.model import (
    AuditAction,
    CancelParams,
    CancelResult,
    DeployParams,
    DeployResult,
    DeployStatus,
    DryRunResult,
    ErrorType,
    OperationKind,
    RetryFailedParams,
    Scope,
)

from .query import Query, StartQuery, StatusQuery
from .reach import by_body, by_deployment
from .routing import NO_BODY, AnyRoute, Call, Route
from .waiting import read_status


async def execute_deployment(call: Call[DeployParams, StartQuery]) -> DeployResult | DryRunResult:
    """Start a deployment: put `version` of `service` on each of `instances`.

    Durable when it is answered. `deploy_id` is the caller's idempotency key: the same id with the same
    body answers the same again and starts nothing; with another body it is refused. Bodies are compared
    with their defaults filled in, `instances` as a set and `package_url` without its query. Either all
    instances are accepted or none.

    With `dry_run` nothing is changed and no id is used: the answer, a DryRunResult, tells what would happen
    to each instance as things stand."""
    if call.query.dry_run:
        return await call.deps.store.foresee(call.body, caller=call.caller.name)
    accepted = await call.deps.store.accept_deployment(call.body, actor=call.actor)
    call.deps.announce(accepted)
    return accepted.result


async def get_deployment_status(call: Call[None, StatusQuery]) -> Written[DeployStatus]:
    """Tell how a deployment stands, in total and for each instance.

    With `wait` the answer comes when the deployment has ended, at the latest after that time."""
    return await read_status(call, OperationKind.DEPLOYMENT, call.deps.store.deploy_status)


async def cancel_deployment(call: Call[CancelParams, Query]) -> CancelResult:
    """Cancel what of a deployment is not past its point of no return.

    The answer carries the status at that moment and when the cancel was recorded; a repeated cancel
    answers the first. Refused only if the deployment ended without one. What becomes of each instance is
    in the status."""
    cancelled = await call.deps.store.cancel(OperationKind.DEPLOYMENT, call.name, actor=call.actor)
    call.deps.wake(cancelled.task_ids)
    call.deps.bulletin.publish(OperationKind.DEPLOYMENT, call.name)
    return cancelled.result


async def retry_failed(call: Call[RetryFailedParams, Query]) -> DeployResult:
    """Deploy the same package again to exactly the instances on which an ended deployment failed.

    A new deployment with an id of its own, answered as ExecuteDeployment is; the same id again answers the
    same again. Refused while the first one runs, and when nothing failed in it."""
    accepted = await call.deps.store.accept_retry(call.name, call.body, actor=call.actor)
    call.deps.announce(accepted)
    return accepted.result


ROUTES: Final[tuple[AnyRoute, ...]] = (
    Route(
        method="POST",
        path="/v1/deployment",
        operation_id="ExecuteDeployment",
        tag="deployment",
        handler=execute_deployment,
        answer=DeployResult,
        dry_answer=DryRunResult,
        query=StartQuery,
        body=DeployParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_body,
        action=AuditAction.START_DEPLOYMENT,
        refusals=(
            ErrorType.UNKNOWN_SERVICE,
            ErrorType.UNKNOWN_INSTANCE,
            ErrorType.DEPLOY_ID_CONFLICT,
            ErrorType.INSTANCE_BUSY,
        ),
        example=DeployParams(
            service="user-service",
            version="v1.2.3",
            instances=["instance-1", "instance-2"],
            package_url="https://packages.example.com/user-service/v1.2.3.tar.gz",
            deploy_id="deploy-12345",
            timeout=300,
            retry_count=3,
        ),
    ),
    Route(
        method="GET",
        path="/v1/deployment/{deploy_id}",
        operation_id="GetDeploymentStatus",
        tag="deployment",
        handler=get_deployment_status,
        answer=DeployStatus,
        query=StatusQuery,
        body=NO_BODY,
        scope=Scope.DEPLOY_READ,
        reach=by_deployment,
        refusals=(ErrorType.UNKNOWN_DEPLOYMENT,),
    ),
    Route(
        method="POST",
        path="/v1/deployment/{deploy_id}/cancel",
        operation_id="CancelDeployment",
        tag="deployment",
        handler=cancel_deployment,
        answer=CancelResult,
        query=Query,
        body=CancelParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_deployment,
        action=AuditAction.CANCEL_DEPLOYMENT,
        body_required=False,
        refusals=(ErrorType.UNKNOWN_DEPLOYMENT, ErrorType.ALREADY_ENDED),
        example=CancelParams(),
    ),
    Route(
        method="POST",
        path="/v1/deployment/{deploy_id}/retry-failed",
        operation_id="RetryFailed",
        tag="deployment",
        handler=retry_failed,
        answer=DeployResult,
        query=Query,
        body=RetryFailedParams,
        scope=Scope.DEPLOY_WRITE,
        reach=by_deployment,
        action=AuditAction.RETRY_FAILED,
        refusals=(
            ErrorType.UNKNOWN_DEPLOYMENT,
            ErrorType.UNKNOWN_SERVICE,
            ErrorType.UNKNOWN_INSTANCE,
            ErrorType.NOT_ENDED,
            ErrorType.NOTHING_FAILED,
            ErrorType.DEPLOY_ID_CONFLICT,
            ErrorType.INSTANCE_BUSY,
        ),
        example=RetryFailedParams(deploy_id="deploy-12346"),
    ),
)
