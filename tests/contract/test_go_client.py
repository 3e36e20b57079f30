"""A Go client, as the documents write one: structs without omitempty, decoded into the declared types.

Go itself is not needed: `tests.contract.go` does what encoding/json does with these structs."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import pytest

from releasehand.model import FailureCode, Phase
from shared.sealing import Keyring, read_key
from tests.contract.go import ZERO_TIME, DecodeError, decode, marshal, unmarshal
from tests.contract.simulated import Copy, Course
from tests.contract.spec import (
    DESIGN,
    HTTP,
    MAY_BE_NULL,
    REFERENCE,
    answer_structs,
    body_structs,
    request_fields,
)
from tests.contract.stage import Stage, run_stage

ORIGIN: Final = "https://packages.example.com/user-service"
JSON: Final = {"Content-Type": "application/json; charset=utf-8"}
BODIES: Final = body_structs()
ANSWERS: Final = answer_structs()


class CallError(Exception):
    """The `err` of a Go function: the envelope's error."""


@dataclass
class GoClient:
    """One method for all functions; `document` says whose structs it was written after."""

    stage: Stage
    document: str = REFERENCE

    def call(self, function: str, **params: Any) -> dict[str, list[Any]]:
        """Send every field of the function's struct, those not in `params` as zero, and decode the answer."""
        method, template = HTTP[function]
        own = [one for one in request_fields() if one.function == function and one.document == self.document]
        path = template.format(**params)
        if query := {
            one.name: _in_query(params, one.name, one.go_type) for one in own if one.place == "query"
        }:
            path += f"?{urlencode(query)}"
        struct = {one.name: one.go_type for one in own if one.place == "body"}
        sent: dict[str, Any] = {"data": marshal(struct, params), "headers": JSON} if struct else {}
        reply = self.stage.call(method, path, **sent)
        if reply.status != 200:
            raise CallError(reply.error)
        null_times = frozenset(path for name, path in MAY_BE_NULL if name == function)
        return unmarshal(ANSWERS[function][self.document], reply.data, null_times=null_times)


def _in_query(params: Mapping[str, Any], name: str, go_type: str) -> str:
    """As a client writes a struct into a query: fmt.Sprint of each field."""
    zero: Any = {"string": "", "int": 0, "bool": False}[go_type]
    value = params.get(name, zero)
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.fixture
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    copies = {f"instance-{n}": Copy("user-service", "v1.2.2", ["v1.2.2"]) for n in (1, 2)}
    with run_stage(tmp_path_factory.mktemp("go"), {"host-1": copies}) as made:
        yield made


@pytest.mark.parametrize("document", [REFERENCE, DESIGN], ids=["reference", "design"])
@pytest.mark.parametrize("comes_up", [True, False])
def test_the_example_of_the_reference_deploys_queries_and_rolls_back(
    stage: Stage, document: str, comes_up: bool
) -> None:
    go = GoClient(stage, document)
    if not comes_up:
        stage.agents["host-1"].courses["v1.2.3"] = Course(fail=FailureCode.CHECK_FAILED, at=Phase.CHECKING)
    result = go.call(
        "ExecuteDeployment",
        service="user-service",
        version="v1.2.3",
        instances=["instance-1", "instance-2"],
        package_url=f"{ORIGIN}/v1.2.3.tar.gz",
        deploy_id="deploy-12345",
        timeout=300,
        retry_count=3,
    )
    assert result["deploy_id"] == ["deploy-12345"]
    stage.call("GET", "/v1/deployment/deploy-12345?wait=20s")
    status = go.call("GetDeploymentStatus", deploy_id="deploy-12345")
    assert status["status"] == ["completed" if comes_up else "failed"]
    assert (status["progress.completed"], status["progress.total"]) == ([2 if comes_up else 0], [2])
    rollback = go.call(
        "RollbackBatch",
        service="user-service",
        target_version="v1.2.2",
        package_url=f"{ORIGIN}/v1.2.2.tar.gz",
        instances=["instance-1", "instance-2"],
    )
    [rollback_id] = rollback["rollback_id"]
    stage.call("GET", f"/v1/rollback/{rollback_id}?wait=20s")
    after = go.call("GetRollbackStatus", rollback_id=rollback_id)
    assert after["status"] == ["completed"]
    assert after["instances[].status"] == ["completed", "completed"]
    assert after["completed_at"] != [ZERO_TIME]
    versions = go.call("GetServiceInstanceVersions", service="user-service")
    assert versions["version_summary"] == [{"v1.2.2": 2}]


def test_every_function_takes_every_zero_value(stage: Stage) -> None:
    go = GoClient(stage)
    stage.agents["host-1"].courses["v2"] = Course(hold=Phase.DOWNLOADING)
    required: dict[str, dict[str, Any]] = {
        "ExecuteDeployment": {
            "service": "user-service",
            "version": "v2",
            "instances": ["instance-1"],
            "package_url": f"{ORIGIN}/v2.tar.gz?a=1&b=2",  # encoding/json writes the & as \u0026
            "deploy_id": "deploy-1",
        },
        "GetDeploymentStatus": {"deploy_id": "deploy-1"},
        "CancelDeployment": {"deploy_id": "deploy-1"},
        "GetServiceInstanceVersions": {"service": "user-service"},
        "GetServiceInstances": {"service": "user-service"},
        "GetInstanceVersionHistory": {"instance_id": "instance-1"},
        "RollbackInstance": {"instance_id": "instance-2", "target_version": "v1.2.2"},
        "GetSystemHealth": {},
        "GetSystemStats": {},
    }
    answers = {function: go.call(function, **params) for function, params in required.items()}
    assert answers["GetServiceInstances"]["limit"] == [100]
    assert answers["GetServiceInstances"]["total"] == [2]
    assert answers["GetSystemStats"]["period"] == ["24h"]
    [rollback_id] = answers["RollbackInstance"]["rollback_id"]
    stage.call("GET", f"/v1/rollback/{rollback_id}?wait=20s")
    assert go.call("GetRollbackStatus", rollback_id=rollback_id)["status"] == ["completed"]
    [[url, query]] = stage.query(
        "SELECT package_url, sealed FROM task JOIN url_query ON task.url_query = url_query.id"
        " WHERE operation_id = 'deploy-1'"
    )
    assert url == f"{ORIGIN}/v2.tar.gz"
    assert Keyring(read_key(stage.folder / "secrets.key")).unseal(query, url) == "a=1&b=2"


def test_a_pending_instance_has_go_s_zero_time(stage: Stage) -> None:
    stage.run(stage.unlink("host-1"))
    go = GoClient(stage)
    rollback = go.call("RollbackInstance", instance_id="instance-1", target_version="v1.2.2")
    status = go.call("GetRollbackStatus", rollback_id=rollback["rollback_id"][0])
    assert status["instances[].started_at"] == [ZERO_TIME]
    assert status["instances[].completed_at"] == [None]
    assert go.call("CancelRollback", rollback_id=rollback["rollback_id"][0])["status"] == ["cancelled"]


@pytest.mark.parametrize(
    ("function", "params"),
    [
        (
            "ExecuteDeployment",
            {"service": "s", "version": "v2", "package_url": f"{ORIGIN}/v2.zip", "deploy_id": "d"},
        ),
        ("RollbackBatch", {"service": "s", "target_version": "v1"}),
    ],
)
def test_a_nil_slice_of_instances_is_refused_clearly(
    stage: Stage, function: str, params: dict[str, Any]
) -> None:
    with pytest.raises(CallError) as refused:
        GoClient(stage).call(function, **params)
    error = refused.value.args[0]
    assert error["type"] == "invalid_request"
    assert error["errors"] == [{"pointer": "/instances", "detail": "must be a list"}]


@pytest.mark.parametrize("function", BODIES)
def test_an_empty_struct_is_refused_and_names_what_is_required(stage: Stage, function: str) -> None:
    with pytest.raises(CallError) as refused:
        GoClient(stage).call(function)
    required = {one.name for one in request_fields() if one.function == function and one.need == "required"}
    assert {one["pointer"] for one in refused.value.args[0]["errors"]} == {f"/{name}" for name in required}


@pytest.mark.parametrize(
    ("go_type", "value"),
    [
        ("string", None),
        ("string", 7),
        ("int", 1.0),
        ("int", True),
        ("int", "1"),
        ("int", 2**63),
        ("float64", "0.5"),
        ("bool", 0),
        ("time.Time", None),
        ("time.Time", "2030-01-01T12:00:00+00:00"),
        ("time.Time", "2030-01-01 12:00:00Z"),
        ("[]string", None),
        ("[]string", [1]),
        ("map[string]int", None),
        ("map[string]int", {"v1": "2"}),
    ],
)
def test_the_stand_in_decodes_no_more_than_was_promised(go_type: str, value: Any) -> None:
    with pytest.raises(DecodeError):
        decode(go_type, value, where="field")
