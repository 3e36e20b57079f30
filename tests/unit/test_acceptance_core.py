"""What an accepted call becomes, and when a repeated one is the same."""

from itertools import pairwise
from typing import Any

import pytest

from controller.core.acceptance import (
    fingerprint,
    first_difference,
    order_deployment,
    order_rollback,
)
from releasehand.model import (
    BatchRollbackParams,
    DeployParams,
    InstanceRollbackParams,
    OperationKind,
    RollbackType,
)

URL = "https://origin.example/user/v2.tar.gz"
OTHER_DIGEST = "ef" * 32


def deployment(**said: Any) -> DeployParams:
    values: dict[str, Any] = {
        "service": "user",
        "version": "v2",
        "instances": ["user-1", "user-2"],
        "package_url": URL,
        "deploy_id": "d1",
    }
    return DeployParams(**(values | said))


def batch(**said: Any) -> BatchRollbackParams:
    return BatchRollbackParams(
        **({"service": "user", "target_version": "v1", "instances": ["user-1", "user-2"]} | said)
    )


def single(**said: Any) -> InstanceRollbackParams:
    return InstanceRollbackParams(**({"instance_id": "user-1", "target_version": "v1"} | said))


def difference(first: DeployParams, second: DeployParams) -> str | None:
    return first_difference(fingerprint(first), fingerprint(second))


# the same again


@pytest.mark.parametrize(
    "written_out",
    [
        {"timeout": 0},
        {"timeout": 300},
        {"retry_count": 0},
        {"retry_count": 3},
        {"package_sha256": ""},
        {"instances": ["user-2", "user-1"]},
        {"package_url": f"{URL}?X-Signature=abc"},
        {"package_url": f"{URL}?"},
    ],
)
def test_a_body_that_means_the_same_is_the_same(written_out: dict[str, Any]) -> None:
    assert difference(deployment(), deployment(**written_out)) is None
    assert difference(deployment(**written_out), deployment()) is None


def test_a_digest_in_capitals_is_the_same_digest() -> None:
    assert difference(deployment(package_sha256="AB" * 32), deployment(package_sha256="ab" * 32)) is None


def test_two_presigned_urls_of_one_package_are_the_same() -> None:
    first, second = (deployment(package_url=f"{URL}?expires={n}") for n in (1, 2))
    assert difference(first, second) is None


# another body


ANOTHER: dict[str, Any] = {
    "service": "order",
    "version": "v3",
    "instances": ["user-1"],
    "package_url": "https://origin.example/user/v3.tar.gz",
    "deploy_id": "d2",
    "timeout": 299,
    "retry_count": -1,
    "package_sha256": OTHER_DIGEST,
}


@pytest.mark.parametrize("field", DeployParams.model_fields)
def test_every_field_makes_another_body_and_is_named(field: str) -> None:
    assert difference(deployment(), deployment(**{field: ANOTHER[field]})) == field


@pytest.mark.parametrize(("earlier", "later"), list(pairwise(DeployParams.model_fields)))
def test_of_two_differences_the_first_of_the_model_is_named(earlier: str, later: str) -> None:
    both = {later: ANOTHER[later], earlier: ANOTHER[earlier]}
    assert difference(deployment(), deployment(**both)) == earlier


def test_no_retries_is_not_the_default() -> None:
    assert difference(deployment(retry_count=-1), deployment(retry_count=0)) == "retry_count"


def test_names_that_only_join_to_the_same_text_are_another_set() -> None:
    assert difference(deployment(instances=["a", "b-c"]), deployment(instances=["a-b", "c"])) == "instances"


@pytest.mark.parametrize("field", BatchRollbackParams.model_fields)
def test_every_field_of_a_batch_rollback_makes_another_body(field: str) -> None:
    another = ANOTHER | {"target_version": "previous", "force": True}
    first, second = fingerprint(batch()), fingerprint(batch(**{field: another[field]}))
    assert first_difference(first, second) == field


def test_one_idempotency_key_for_two_kinds_of_rollback_is_a_difference() -> None:
    assert first_difference(fingerprint(single()), fingerprint(batch())) == "service"
    assert first_difference(fingerprint(batch()), fingerprint(single())) == "instance_id"


def test_a_fingerprint_of_many_instances_stays_small() -> None:
    """It is a column of every operation's row."""
    many = deployment(instances=[f"instance-{n}" for n in range(20_000)])
    assert len(str(fingerprint(many))) < 1_000


def test_a_fingerprint_never_keeps_a_signature() -> None:
    assert "secret" not in str(fingerprint(deployment(package_url=f"{URL}?X-Signature=secret")))


# orders


def test_a_deployment_becomes_an_order_with_every_default_filled_in() -> None:
    order = order_deployment(deployment())
    assert (order.kind, order.operation_id, order.service) == (OperationKind.DEPLOYMENT, "d1", "user")
    assert (order.timeout_s, order.retries, order.force) == (300, 3, False)
    assert order.rollback_type is None
    assert order.package_url == URL


@pytest.mark.parametrize("query", ["key=1", "a=b?c=d&e=%3F"])
def test_an_order_has_the_query_of_its_url_apart(query: str) -> None:
    order = order_deployment(deployment(package_url=f"{URL}?{query}"))
    assert (order.package_url, order.query) == (URL, query)
    assert query not in repr(order)


@pytest.mark.parametrize(("asked", "given"), [(0, 3), (-1, 0), (1, 1), (10, 10)])
def test_retries_are_counted_as_the_spec_says(asked: int, given: int) -> None:
    assert order_deployment(deployment(retry_count=asked)).retries == given


def test_a_single_rollback_leaves_its_service_to_the_instance() -> None:
    order = order_rollback(single(force=True, timeout=60), "r1")
    assert (order.kind, order.rollback_type) == (OperationKind.ROLLBACK, RollbackType.INSTANCE)
    assert (order.service, order.instances, order.version) == ("", ["user-1"], "v1")
    assert (order.force, order.timeout_s, order.retries) == (True, 60, 3)


def test_a_batch_rollback_names_its_service_and_instances() -> None:
    order = order_rollback(batch(target_version="previous"), "r2")
    assert (order.operation_id, order.rollback_type) == ("r2", RollbackType.BATCH)
    assert (order.service, order.instances, order.version) == ("user", ["user-1", "user-2"], "previous")
    assert (order.force, order.timeout_s) == (False, 300)
