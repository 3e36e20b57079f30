"""What an accepted call becomes, and how a repeated one is told from a new one."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final, Generic, TypeVar

from releasehand.model import (
    DEFAULT_RETRIES,
    DEFAULT_TIMEOUT_S,
    ENDED,
    NO_RETRIES,
    BatchRollbackParams,
    CancelResult,
    DeployParams,
    InstanceRollbackParams,
    OperationKind,
    RetryFailedParams,
    RollbackType,
    Status,
)
from shared.urls import split_query

from .refusals import DeployIdConflictError, NotEndedError, NothingFailedError

ResultT = TypeVar("ResultT")

KEY_KEPT: Final = timedelta(hours=24)
"""How long after its acceptance a rollback is found by its Idempotency-Key. Then the key is free."""


@dataclass(frozen=True, slots=True)
class Accepted(Generic[ResultT]):
    """`task_ids` are what the dispatcher is to be woken with; a repeated call starts nothing. `changed` are
    other operations that moved with it: `force` may end them."""

    result: ResultT
    task_ids: list[int]
    repeated: bool
    changed: Sequence[tuple[OperationKind, str]] = ()


@dataclass(frozen=True, slots=True)
class Cancelled:
    result: CancelResult
    task_ids: list[int]


@dataclass(frozen=True, slots=True)
class InstancePage:
    """Which of an operation's instances a status answer lists. No limit: all of them."""

    limit: int | None = None
    offset: int = 0
    status: Status | None = None


WHOLE: Final = InstancePage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An operation as asked for, with every default filled in: the same for all three calls that start
    work."""

    kind: OperationKind
    operation_id: str
    service: str  # "" for a single instance's rollback: the instance tells
    version: str
    instances: Sequence[str]
    package_url: str  # without its query
    query: str = field(default="", repr=False)  # of the URL; a credential, to be sealed before it is stored
    query_row: int | None = None  # where it is stored
    package_sha256: str
    force: bool
    timeout_s: int
    retries: int
    rollback_type: RollbackType | None
    fingerprint: dict[str, Any]


def order_deployment(params: DeployParams) -> Order:
    url, query = split_query(params.package_url)
    return Order(
        kind=OperationKind.DEPLOYMENT,
        operation_id=params.deploy_id,
        service=params.service,
        version=params.version,
        instances=params.instances,
        package_url=url,
        query=query,
        package_sha256=params.package_sha256,
        force=False,
        timeout_s=params.timeout or DEFAULT_TIMEOUT_S,
        retries=_fill_retries(params.retry_count),
        rollback_type=None,
        fingerprint=fingerprint(params),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PastDeployment:
    """A deployment as it was accepted, and where it failed."""

    deploy_id: str
    status: Status
    service: str
    version: str
    package_url: str  # without its query
    query_row: int | None  # where that is stored
    package_sha256: str
    timeout_s: int
    retries: int
    failed: Sequence[str]


def retry_failed(past: PastDeployment, params: RetryFailedParams) -> DeployParams:
    """The deployment that a retry stands for: what failed of one that has ended never changes again, so that
    the same call makes the same one each time.

    Raises DeployIdConflictError, NotEndedError or NothingFailedError."""
    if params.deploy_id == past.deploy_id:
        raise DeployIdConflictError(past.deploy_id, "deploy_id")
    if past.status not in ENDED:
        raise NotEndedError(past.deploy_id, past.status)
    if not past.failed:
        raise NothingFailedError(past.deploy_id, past.status)
    return DeployParams.model_construct(  # it was looked at when it was accepted
        service=past.service,
        version=past.version,
        instances=list(past.failed),
        package_url=past.package_url,
        deploy_id=params.deploy_id,
        timeout=params.timeout or past.timeout_s,
        retry_count=params.retry_count or past.retries or NO_RETRIES,
        package_sha256=past.package_sha256,
    )


def order_rollback(params: InstanceRollbackParams | BatchRollbackParams, rollback_id: str) -> Order:
    if isinstance(params, InstanceRollbackParams):
        rollback_type, service, instances = RollbackType.INSTANCE, "", [params.instance_id]
    else:
        rollback_type, service, instances = RollbackType.BATCH, params.service, params.instances
    url, query = split_query(params.package_url)
    return Order(
        kind=OperationKind.ROLLBACK,
        operation_id=rollback_id,
        service=service,
        version=params.target_version,
        instances=instances,
        package_url=url,
        query=query,
        package_sha256=params.package_sha256,
        force=params.force,
        timeout_s=params.timeout or DEFAULT_TIMEOUT_S,
        retries=DEFAULT_RETRIES,
        rollback_type=rollback_type,
        fingerprint=fingerprint(params),
    )


def fingerprint(params: DeployParams | InstanceRollbackParams | BatchRollbackParams) -> dict[str, Any]:
    """A body in the form in which two are compared: defaults filled in, `instances` as a set, the URL without
    its query (a presigned retry differs there). The set is kept as a digest, so that a large body stays a
    small row."""
    values = params.model_dump(mode="json")
    values["timeout"] = values["timeout"] or DEFAULT_TIMEOUT_S
    if "retry_count" in values:
        values["retry_count"] = _fill_retries(values["retry_count"])
    if "instances" in values:
        text = json.dumps(sorted(values["instances"]))
        values["instances"] = hashlib.sha256(text.encode()).hexdigest()
    values["package_url"], _ = split_query(values["package_url"])
    return values


def first_difference(accepted: dict[str, Any], asked: dict[str, Any]) -> str | None:
    """The first field, in the order of the model, in which two fingerprints differ. Where there is a service
    it comes first: of another service's body, a caller learns nothing more (docs/decisions/0011)."""
    for name, value in asked.items():
        if accepted.get(name) != value:
            return name
    return next((name for name in accepted if name not in asked), None)


def _fill_retries(retry_count: int) -> int:
    if retry_count == NO_RETRIES:
        return 0
    return retry_count or DEFAULT_RETRIES
