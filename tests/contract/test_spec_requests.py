"""Every request field of both documents: accepted, left out, zero, and refused where it is missing."""

import json
from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any, Final

import pytest

from tests.contract.simulated import Copy
from tests.contract.spec import HTTP, REFERENCE, RequestField, request_fields
from tests.contract.stage import Reply, Stage, run_stage

SERVICE: Final = "user-service"
ORIGIN: Final = "https://packages.example.com/user-service"
SPARES: Final = 200
FIELDS: Final = list(request_fields())
BODY_FIELDS: Final = [field for field in FIELDS if field.place == "body" and field.document == REFERENCE]
REQUIRED: Final = [field for field in BODY_FIELDS if field.need == "required"]
OPTIONAL: Final = [field for field in BODY_FIELDS if field.need == "optional"]
QUERY: Final = [field for field in FIELDS if field.place == "query"]
ZEROS: Final[dict[str, Any]] = {"string": "", "int": 0, "bool": False, "[]string": []}
DEFAULTS: Final[dict[str, Any]] = {"timeout": 300, "retry_count": 3, "force": False, "package_url": ""}
OTHERS: Final[dict[str, Any]] = {
    "timeout": 60,
    "retry_count": 1,
    "force": True,
    "package_url": f"{ORIGIN}/v2.tar.gz",
}
"""Values that are no default and so mean another call."""
WRONG: Final[dict[str, list[Any]]] = {
    "string": [None, 7, True, [], {}],
    "int": [None, "7", 1.5, True, [], {}],
    "bool": [None, "true", 1, []],
    "[]string": [None, "instance-1", 7, {}, [7], [None], [""]],
}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """One host of many instances that has gone away: what is accepted stays where it is."""
    copies = {f"instance-{n}": Copy(SERVICE, "v1", ["v1"]) for n in range(SPARES)}
    with run_stage(tmp_path_factory.mktemp("requests"), {"host-1": copies}) as made:
        made.run(made.unlink("host-1"))
        yield made


@pytest.fixture(scope="module")
def spare() -> Iterator[str]:
    """Numbers of instances that nothing holds yet."""
    return (f"instance-{n}" for n in count())


def minimal(function: str, instance: str) -> dict[str, Any]:
    """A body with nothing but what is required."""
    match function:
        case "ExecuteDeployment":
            return {
                "service": SERVICE,
                "version": "v2",
                "instances": [instance],
                "package_url": f"{ORIGIN}/v2.tar.gz",
                "deploy_id": f"deploy-{instance}",
            }
        case "RollbackInstance":
            return {"instance_id": instance, "target_version": "v0"}
        case _:
            return {"service": SERVICE, "target_version": "v0", "instances": [instance]}


def send(stage: Stage, function: str, body: Mapping[str, Any], key: str) -> Reply:
    """A call that may be repeated: by its deploy_id, or by an Idempotency-Key."""
    method, path = HTTP[function]
    headers = {} if function == "ExecuteDeployment" else {"Idempotency-Key": key}
    return stage.call(method, path, body, headers=headers)


@pytest.mark.parametrize("field", BODY_FIELDS, ids=str)
def test_a_body_field_is_accepted(stage: Stage, spare: Iterator[str], field: RequestField) -> None:
    instance = next(spare)
    body = minimal(field.function, instance)
    body.setdefault(field.name, OTHERS.get(field.name))
    reply = send(stage, field.function, body, instance)
    assert reply.data["status"] == "pending"


@pytest.mark.parametrize("field", OPTIONAL, ids=str)
def test_an_optional_field_may_be_absent_or_zero_or_its_default(
    stage: Stage, spare: Iterator[str], field: RequestField
) -> None:
    instance = next(spare)
    body = minimal(field.function, instance)
    first = send(stage, field.function, body, instance)
    for value in (ZEROS[field.go_type], DEFAULTS[field.name]):
        assert send(stage, field.function, body | {field.name: value}, instance).data == first.data
    if field.default:
        assert json.dumps(DEFAULTS[field.name]) == field.default  # the document's own
    other = send(stage, field.function, body | {field.name: OTHERS[field.name]}, instance)
    assert other.status == 409
    assert [error["pointer"] for error in other.error["errors"]] == [f"/{field.name}"]


@pytest.mark.parametrize("field", REQUIRED, ids=str)
def test_a_required_field_must_be_there_and_not_empty(
    stage: Stage, spare: Iterator[str], field: RequestField
) -> None:
    body = minimal(field.function, next(spare))
    before = accepted(stage)
    without = {name: value for name, value in body.items() if name != field.name}
    for bad in (without, body | {field.name: ZEROS[field.go_type]}, body | {field.name: None}):
        reply = send(stage, field.function, bad, "key")
        assert (reply.status, reply.error["type"]) == (400, "invalid_request")
        assert [error["pointer"] for error in reply.error["errors"]] == [f"/{field.name}"]
        assert field.name in reply.error["detail"]
    assert accepted(stage) == before


@pytest.mark.parametrize("field", BODY_FIELDS, ids=str)
def test_a_body_field_of_another_type_is_refused(
    stage: Stage, spare: Iterator[str], field: RequestField
) -> None:
    body = minimal(field.function, next(spare))
    before = accepted(stage)
    for wrong in WRONG[field.go_type]:
        reply = send(stage, field.function, body | {field.name: wrong}, "key")
        assert reply.status == 400, wrong
        [error] = reply.error["errors"]
        assert error["pointer"].startswith(f"/{field.name}")
    assert accepted(stage) == before


@pytest.mark.parametrize("field", QUERY, ids=str)
def test_a_query_parameter_may_be_absent_or_empty_or_zero_or_its_default(
    stage: Stage, field: RequestField
) -> None:
    method, template = HTTP[field.function]
    path = template.format(service=SERVICE, instance_id="instance-0")
    same = [f"{field.name}="]
    if field.default:
        same.append(f"{field.name}={field.default}")
    if field.go_type == "int":
        same.append(f"{field.name}=0")
    absent = stage.call(method, path).data
    for query in same:
        assert steady(stage.call(method, f"{path}?{query}").data) == steady(absent)


def steady(data: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "timestamp"}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (f"/v1/service/{SERVICE}/versions?include_stopped=true", {"total_instances": SPARES}),
        (f"/v1/service/{SERVICE}/instances?limit=7&offset=3", {"limit": 7, "offset": 3, "total": SPARES}),
        (f"/v1/service/{SERVICE}/instances?status=stopped&limit=1000", {"total": 0, "limit": 1000}),
        (f"/v1/service/{SERVICE}/instances?version=v1", {"total": SPARES}),
        (f"/v1/service/{SERVICE}/instances?version=v9", {"total": 0, "instances": []}),
        ("/v1/instance/instance-0/version-history?limit=1&offset=1", {"history": [], "total": 1}),
        ("/v1/system/stats?period=30d", {"period": "30d"}),
    ],
)
def test_a_query_parameter_is_followed(stage: Stage, path: str, expected: dict[str, Any]) -> None:
    data = stage.call("GET", path).data
    assert {name: data[name] for name in expected} == expected


@pytest.mark.parametrize(("given", "seconds"), [(0, 300), (300, 300), (7, 7), (86_400, 86_400)])
@pytest.mark.parametrize("function", ["ExecuteDeployment", "RollbackInstance", "RollbackBatch"])
def test_the_timeout_is_each_task_s_budget(
    stage: Stage, spare: Iterator[str], function: str, given: int, seconds: int
) -> None:
    instance = next(spare)
    assert send(stage, function, minimal(function, instance) | {"timeout": given}, instance).status == 200
    budget = "round((julianday(deadline_at) - julianday(accepted_at)) * 86400)"
    assert read_task(stage, instance, budget) == seconds


@pytest.mark.parametrize(("given", "retries"), [(0, 3), (3, 3), (1, 1), (10, 10), (-1, 0)])
def test_the_retry_count_is_what_further_attempts_are_left(
    stage: Stage, spare: Iterator[str], given: int, retries: int
) -> None:
    instance = next(spare)
    body = minimal("ExecuteDeployment", instance) | {"retry_count": given}
    assert stage.call("POST", "/v1/deployment", body).status == 200
    assert read_task(stage, instance, "retries_left") == retries


def test_a_status_lists_every_instance_unless_a_part_is_asked_for(stage: Stage, spare: Iterator[str]) -> None:
    instances = [next(spare) for _ in range(5)]
    body = minimal("ExecuteDeployment", instances[0]) | {"instances": instances}
    path = f"/v1/deployment/{stage.call('POST', '/v1/deployment', body).data['deploy_id']}"
    for query, expected in {
        "": instances,
        "?instance_limit=&instance_offset=&instance_status=": instances,
        "?instance_limit=0": instances,
        "?instance_limit=2": instances[:2],
        "?instance_offset=3": instances[3:],
        "?instance_limit=2&instance_offset=1": instances[1:3],
        "?instance_status=pending": instances,
        "?instance_status=failed": [],
    }.items():
        data = stage.call("GET", path + query).data
        assert [one["instance_id"] for one in data["instances"]] == expected
        assert data["progress"]["total"] == 5


def accepted(stage: Stage) -> list[tuple[Any, ...]]:
    """What an accepted call would change. Nothing else does: the dispatcher may still note why tasks wait."""
    return stage.query(
        "SELECT (SELECT count(*) FROM operation), (SELECT count(*) FROM task),"
        " (SELECT sum(generation) FROM instance)"
    )


def read_task(stage: Stage, instance: str, column: str) -> Any:
    [(value,)] = stage.query(f"SELECT {column} FROM task WHERE instance_id = ?", instance)  # noqa: S608
    return value
