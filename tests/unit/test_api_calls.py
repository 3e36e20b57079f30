"""Each function of the spec over HTTP: what reaches the store, what comes back, who is told."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from controller.api.routes import ROUTES
from controller.core.acceptance import InstancePage
from releasehand.model import (
    BatchRollbackParams,
    DeployParams,
    HealthStatus,
    InstanceRollbackParams,
    InstanceStatus,
    OperationKind,
    Period,
    Status,
)
from tests.fakes.api_server import (
    BATCH_ROLLBACK,
    DEPLOYMENT,
    INSTANCE_ROLLBACK,
    ApiClient,
    ApiServer,
    health,
)

FUNCTIONS = {
    "ExecuteDeployment",
    "GetDeploymentStatus",
    "CancelDeployment",
    "GetServiceInstanceVersions",
    "GetServiceInstances",
    "GetInstanceVersionHistory",
    "RollbackInstance",
    "RollbackBatch",
    "GetRollbackStatus",
    "CancelRollback",
    "GetSystemHealth",
    "GetSystemStats",
}


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer().start()
    yield client
    await client.http.close()


def test_the_table_has_every_function_of_the_spec_once() -> None:
    names = [route.operation_id for route in ROUTES]
    assert len(names) == len(set(names))
    assert set(names) >= FUNCTIONS


async def test_a_deployment_is_accepted_in_an_envelope_and_its_tasks_are_woken(api: ApiClient) -> None:
    reply = await api.post("/v1/deployment", DEPLOYMENT)
    assert (reply.status, reply.json["code"], reply.json["message"]) == (200, 200, "success")
    assert reply.json["data"] == {
        "deploy_id": "deploy-1",
        "service": "user-service",
        "version": "v1.2.3",
        "status": "pending",
        "total_instances": 2,
        "started_at": "2026-11-21T12:00:00.000Z",
    }
    assert api.server.woken == [[1, 2]]
    assert api.server.store.operations[OperationKind.DEPLOYMENT, "deploy-1"].caller == "scheduler"


async def test_a_repeated_deployment_answers_the_same_and_wakes_nothing_new(api: ApiClient) -> None:
    first = await api.post("/v1/deployment", DEPLOYMENT)
    again = await api.post(
        "/v1/deployment", DEPLOYMENT | {"instances": ["instance-2", "instance-1"], "timeout": 300}
    )
    assert again.json == first.json
    assert api.server.woken == [[1, 2], []]


async def test_a_client_that_sends_every_zero_value_is_understood(api: ApiClient) -> None:
    zeros = {"timeout": 0, "retry_count": 0, "package_sha256": ""}
    assert (await api.post("/v1/deployment", DEPLOYMENT | zeros)).status == 200
    rollback_zeros = {"package_url": "", "force": False, "timeout": 0, "package_sha256": ""}
    api.server.store.end(OperationKind.DEPLOYMENT, "deploy-1")
    assert (await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK | rollback_zeros)).status == 200
    api.server.store.end(OperationKind.ROLLBACK, "rollback-2")
    assert (await api.post("/v1/rollback/batch", BATCH_ROLLBACK | rollback_zeros)).status == 200
    received = [call[1] for call in api.server.store.calls]
    assert received == [
        DeployParams.model_validate(DEPLOYMENT),
        InstanceRollbackParams.model_validate(INSTANCE_ROLLBACK),
        BatchRollbackParams.model_validate(BATCH_ROLLBACK),
    ]


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/rollback/instance", INSTANCE_ROLLBACK), ("/v1/rollback/batch", BATCH_ROLLBACK)]
)
async def test_a_rollback_repeated_with_its_key_starts_nothing(
    api: ApiClient, path: str, body: dict[str, Any]
) -> None:
    key = {"Idempotency-Key": "key/1"}
    first = await api.post(path, body, headers=key)
    again = await api.post(path, body, headers=key)
    assert first.status == again.status == 200
    assert again.json["data"]["rollback_id"] == first.json["data"]["rollback_id"]
    assert api.server.woken[1] == []
    other = await api.post(path, body | {"target_version": "v0.9.0"}, headers=key)
    assert (other.status, other.json["error"]["type"]) == (409, "idempotency_key_conflict")
    assert other.json["error"]["errors"][0]["pointer"] == "/target_version"


async def test_previous_is_a_target_of_a_rollback(api: ApiClient) -> None:
    reply = await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK | {"target_version": "previous"})
    assert reply.json["data"]["target_version"] == "previous"


@pytest.mark.parametrize(
    "sent", [{}, {"json": {}}, {"headers": {"Content-Type": "application/json"}}, {"data": b" "}]
)
@pytest.mark.parametrize("kind", list(OperationKind))
async def test_a_cancel_takes_no_body_or_an_empty_object(
    api: ApiClient, kind: OperationKind, sent: dict[str, Any]
) -> None:
    if kind is OperationKind.DEPLOYMENT:
        await api.post("/v1/deployment", DEPLOYMENT)
        path, ids = "/v1/deployment/deploy-1/cancel", {"deploy_id": "deploy-1", "rollback_id": ""}
    else:
        await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK)
        path, ids = "/v1/rollback/rollback-1/cancel", {"deploy_id": "", "rollback_id": "rollback-1"}
    if "data" in sent:
        sent = sent | {"headers": {"Content-Type": "application/json"}}
    reply = await api.call("POST", path, **sent)
    assert reply.json["data"] == {**ids, "status": "cancelled", "cancelled_at": "2026-11-21T12:00:00.000Z"}
    assert api.server.woken[-1] == [7]
    assert (await api.call("POST", path)).json == reply.json


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", InstancePage()),
        ("?wait=&instance_limit=&instance_offset=&instance_status=", InstancePage()),
        ("?instance_limit=0", InstancePage(limit=100)),
        ("?instance_limit=2&instance_offset=1", InstancePage(limit=2, offset=1)),
        ("?instance_status=failed", InstancePage(status=Status.FAILED)),
    ],
)
async def test_a_status_lists_all_instances_unless_a_part_is_asked_for(
    api: ApiClient, query: str, page: InstancePage
) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK | {"force": True})
    deployment = await api.get(f"/v1/deployment/deploy-1{query}")
    rollback = await api.get(f"/v1/rollback/rollback-2{query}")
    assert (deployment.status, rollback.status) == (200, 200)
    assert api.server.store.calls[-2:] == [
        ("deploy_status", "deploy-1", page),
        ("rollback_status", "rollback-2", page),
    ]


@pytest.mark.parametrize(
    ("path", "call"),
    [
        ("/v1/service/user-service/versions", ("service_versions", "user-service", False)),
        ("/v1/service/user-service/versions?include_stopped=", ("service_versions", "user-service", False)),
        (
            "/v1/service/user-service/versions?include_stopped=true",
            ("service_versions", "user-service", True),
        ),
        ("/v1/service/user-service/instances", ("service_instances", "user-service", None, "", 100, 0)),
        (
            "/v1/service/user-service/instances?status=&version=&limit=0&offset=0",
            ("service_instances", "user-service", None, "", 100, 0),
        ),
        (
            "/v1/service/user-service/instances?status=error&version=v1&limit=1000&offset=7",
            ("service_instances", "user-service", InstanceStatus.ERROR, "v1", 1000, 7),
        ),
        ("/v1/instance/instance-1/version-history", ("version_history", "instance-1", 50, 0)),
        ("/v1/instance/instance-1/version-history?limit=0", ("version_history", "instance-1", 50, 0)),
        ("/v1/instance/instance-1/version-history?limit=2&offset=3", ("version_history", "instance-1", 2, 3)),
        ("/v1/system/stats", ("system_stats", Period.DAY)),
        ("/v1/system/stats?period=", ("system_stats", Period.DAY)),
        ("/v1/system/stats?period=30d", ("system_stats", Period.MONTH)),
    ],
)
async def test_queries_reach_the_store_with_their_defaults(
    api: ApiClient, path: str, call: tuple[object, ...]
) -> None:
    reply = await api.get(path)
    assert reply.status == 200
    assert api.server.store.calls == [call]


@pytest.mark.parametrize("status", [HealthStatus.HEALTHY, HealthStatus.DEGRADED])
async def test_a_controller_that_works_answers_200_without_a_token(
    api: ApiClient, status: HealthStatus
) -> None:
    api.server.health = health(status)
    reply = await api.call_without_token("GET", "/v1/system/health")
    assert reply.status == 200
    assert reply.json["data"] == health(status).model_dump(mode="json")


async def test_an_unhealthy_controller_answers_503_with_its_whole_health(api: ApiClient) -> None:
    api.server.health = health(HealthStatus.UNHEALTHY, "database is down")
    reply = await api.call_without_token("GET", "/v1/system/health")
    assert (reply.status, reply.json["code"], reply.json["error"]["type"]) == (503, 503, "unhealthy")
    assert reply.json["data"] == api.server.health.model_dump(mode="json")
    ready = await api.call_without_token("GET", "/readyz")
    assert (ready.status, ready.json) == (503, {"status": "unhealthy"})


@pytest.mark.parametrize(("path", "status"), [("/livez", "ok"), ("/readyz", "healthy")])
async def test_probes_answer_plainly_without_a_token(api: ApiClient, path: str, status: str) -> None:
    reply = await api.call_without_token("GET", path)
    assert (reply.status, reply.json) == (200, {"status": status})


async def test_head_answers_as_get_without_the_body(api: ApiClient) -> None:
    reply = await api.call("HEAD", "/v1/service/user-service/versions")
    whole = await api.get("/v1/service/user-service/versions")
    assert (reply.status, reply.text) == (200, "")
    assert int(reply.headers["Content-Length"]) == len(whole.text)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/deployment", DEPLOYMENT),
        ("/v1/rollback/instance", INSTANCE_ROLLBACK),
        ("/v1/rollback/batch", BATCH_ROLLBACK),
    ],
)
async def test_a_dry_run_tells_of_each_instance_and_starts_nothing(
    api: ApiClient, path: str, body: dict[str, Any]
) -> None:
    for wanted in ("starts", "refused"):
        told = (await api.post(f"{path}?dry_run=true", body)).json["data"]
        assert told["verdict"] == wanted
        assert {one["instance_id"] for one in told["instances"]} <= {"instance-1", "instance-2"}
        assert {one["outcome"] for one in told["instances"]} == set(told["outcomes"])
        assert api.server.woken == ([] if wanted == "starts" else [[1, 2]])
        if wanted == "starts":
            await api.post("/v1/deployment", DEPLOYMENT)


async def test_an_instance_is_retired_and_everybody_is_told(api: ApiClient) -> None:
    reply = await api.call("DELETE", "/v1/instance/instance-1")
    assert (reply.status, reply.json["data"]["agent_id"]) == (200, "agent-1")
    assert len(api.server.told) == 1
    assert (await api.call("DELETE", "/v1/instance/nobody")).json["error"]["type"] == "unknown_instance"


async def test_a_move_asks_both_agents_to_say_hello_again(api: ApiClient) -> None:
    path = "/v1/instance/instance-1/move"
    assert (await api.post(path, {"agent_id": "agent-1"})).json["data"]["moved_at"] is None
    assert api.server.renewed == []
    assert (await api.post(path, {"agent_id": "agent-2"})).status == 200
    assert api.server.renewed == ["agent-1", "agent-2"]
    refused = (await api.post(path, {"agent_id": "agent-3"})).json["error"]
    assert (refused["type"], refused["errors"][0]["pointer"]) == ("unknown_agent", "/agent_id")
