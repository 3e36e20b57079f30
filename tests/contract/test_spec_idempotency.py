"""A call that is made again: equal answers and one operation, however often and however close together."""

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any, Final

import pytest

from releasehand.model import Phase
from tests.contract.simulated import Copy, Course, SimulatedAgent
from tests.contract.stage import Reply, Stage, at_once, run_stage

SERVICE: Final = "user-service"
TIMES: Final = 100
INSTANCES: Final = 40
URL: Final = "https://packages.example.com/v2.tar.gz"


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """away-* are on a host that has gone, here-* on one that works and holds v9 until told."""
    fleet = {
        "away": {f"away-{n}": Copy(SERVICE, "v1", ["v0", "v1"]) for n in range(INSTANCES)},
        "here": {f"here-{n}": Copy(SERVICE, "v1", ["v0", "v1"]) for n in range(INSTANCES)},
    }
    with run_stage(tmp_path_factory.mktemp("idempotency"), fleet) as made:
        made.run(made.unlink("away"))
        made.agents["here"].courses["v9"] = Course(hold=Phase.DOWNLOADING)
        yield made


@pytest.fixture
def here(stage: Stage) -> SimulatedAgent:
    return stage.agents["here"]


def deployment(deploy_id: str, *instances: str, **more: Any) -> dict[str, Any]:
    given = {"service": SERVICE, "version": "v2", "package_url": URL, "deploy_id": deploy_id}
    return {**given, "instances": list(instances), **more}


def post(stage: Stage, path: str, body: Mapping[str, Any], key: str = "") -> Reply:
    return stage.call("POST", path, body, headers={"Idempotency-Key": key} if key else {})


def post_many(stage: Stage, path: str, body: Mapping[str, Any], key: str = "") -> list[Reply]:
    """The same call, TIMES at once."""
    headers = {"Idempotency-Key": key} if key else {}
    return stage.run(at_once([stage.request("POST", path, body, headers=headers) for _ in range(TIMES)]))


def count(stage: Stage, operation_id: str) -> tuple[int, int]:
    """How many operations and tasks there are under an id."""
    [(operations,)] = stage.query("SELECT count(*) FROM operation WHERE operation_id = ?", operation_id)
    [(tasks,)] = stage.query("SELECT count(*) FROM task WHERE operation_id = ?", operation_id)
    return operations, tasks


def assert_conflict(reply: Reply, error_type: str, field: str) -> None:
    assert (reply.status, reply.error["type"]) == (409, error_type), reply.text
    assert [one["pointer"] for one in reply.error["errors"]] == [f"/{field}"]
    assert f"'{field}'" in reply.error["detail"]
    assert not reply.error["retryable"]


# ---------------------------------------------------------------------------------------------- deployments


def test_a_hundred_equal_deployments_at_once_are_one(stage: Stage) -> None:
    replies = post_many(stage, "/v1/deployment", deployment("race-1", "away-0", "away-1"))
    first = replies[0].data
    assert [reply.data for reply in replies] == [first] * TIMES
    assert (first["status"], first["total_instances"]) == ("pending", 2)
    assert count(stage, "race-1") == (1, 2)


def test_a_hundred_equal_deployments_reach_the_host_once(stage: Stage, here: SimulatedAgent) -> None:
    replies = post_many(stage, "/v1/deployment", deployment("race-2", "here-0"))
    answers = [{name: value for name, value in reply.data.items() if name != "status"} for reply in replies]
    assert answers == [answers[0]] * TIMES
    assert stage.call("GET", "/v1/deployment/race-2?wait=20s").data["status"] == "completed"
    assert [one.ref.instance_id for one in here.executed if one.operation_id == "race-2"] == ["here-0"]


def test_of_different_deployments_at_once_on_one_instance_one_is_accepted(stage: Stage) -> None:
    bodies = [deployment(f"rival-{n}", "away-2") for n in range(TIMES)]
    replies = stage.run(at_once([stage.request("POST", "/v1/deployment", body) for body in bodies]))
    [winner] = [reply.data["deploy_id"] for reply in replies if reply.status == 200]
    refused = [reply for reply in replies if reply.status != 200]
    assert {(reply.status, reply.error["type"]) for reply in refused} == {(409, "instance_busy")}
    assert all(f"'{winner}'" in reply.error["detail"] for reply in refused)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("service", "other-service"),
        ("version", "v3"),
        ("instances", ["away-3"]),
        ("instances", ["away-3", "away-4", "away-5"]),
        ("package_url", "https://packages.example.com/v2.zip"),
        ("package_url", "https://mirror.example.com/v2.tar.gz"),
        ("timeout", 301),
        ("retry_count", -1),
        ("package_sha256", "a" * 64),
    ],
)
def test_the_same_deploy_id_with_another_body_names_the_field(stage: Stage, field: str, value: Any) -> None:
    body = deployment("taken", "away-3", "away-4")
    assert post(stage, "/v1/deployment", body).status == 200
    assert_conflict(post(stage, "/v1/deployment", body | {field: value}), "deploy_id_conflict", field)
    assert count(stage, "taken") == (1, 2)


@pytest.mark.parametrize(
    "more",
    [
        {"instances": ["away-7", "away-6"]},
        {"package_url": f"{URL}?X-Amz-Date=20300101&X-Amz-Signature=abc"},
        {"timeout": 0},
        {"timeout": 300},
        {"retry_count": 0},
        {"retry_count": 3},
        {"package_sha256": ""},
    ],
)
def test_what_means_the_same_is_the_same(stage: Stage, more: dict[str, Any]) -> None:
    body = deployment("same", "away-6", "away-7")
    first = post(stage, "/v1/deployment", body)
    assert post(stage, "/v1/deployment", body | more).data == first.data
    assert count(stage, "same") == (1, 2)


def test_a_deployment_that_has_ended_is_answered_again_and_not_repeated(
    stage: Stage, here: SimulatedAgent
) -> None:
    body = deployment("ended", "here-1")
    first = post(stage, "/v1/deployment", body).data
    assert stage.call("GET", "/v1/deployment/ended?wait=20s").data["status"] == "completed"
    assert post(stage, "/v1/deployment", body).data == first | {"status": "completed"}
    assert len([one for one in here.executed if one.operation_id == "ended"]) == 1


# ------------------------------------------------------------------------------------------------ rollbacks


def test_a_hundred_rollbacks_with_one_key_are_one(stage: Stage) -> None:
    body = {"instance_id": "away-10", "target_version": "v0"}
    replies = post_many(stage, "/v1/rollback/instance", body, key="key-1")
    first = replies[0].data
    assert [reply.data for reply in replies] == [first] * TIMES
    assert count(stage, first["rollback_id"]) == (1, 1)


def test_a_hundred_batches_with_one_key_are_one(stage: Stage) -> None:
    body = {"service": SERVICE, "target_version": "previous", "instances": ["away-11", "away-12"]}
    replies = post_many(stage, "/v1/rollback/batch", body, key="key-2")
    first = replies[0].data
    assert [reply.data for reply in replies] == [first] * TIMES
    assert count(stage, first["rollback_id"]) == (1, 2)


def test_a_key_with_another_body_names_the_field(stage: Stage) -> None:
    body = {"instance_id": "away-13", "target_version": "v0"}
    assert post(stage, "/v1/rollback/instance", body, "key-3").status == 200
    for field, value in {
        "instance_id": "away-14",
        "target_version": "v1",
        "force": True,
        "timeout": 9,
    }.items():
        reply = post(stage, "/v1/rollback/instance", body | {field: value}, "key-3")
        assert_conflict(reply, "idempotency_key_conflict", field)


def test_a_key_of_one_kind_of_rollback_is_no_key_of_the_other(stage: Stage) -> None:
    one = {"instance_id": "away-15", "target_version": "v0"}
    batch = {"service": SERVICE, "target_version": "v0", "instances": ["away-15"]}
    assert post(stage, "/v1/rollback/instance", one, "key-4").status == 200
    reply = post(stage, "/v1/rollback/batch", batch, "key-4")
    assert (reply.status, reply.error["type"]) == (409, "idempotency_key_conflict")
    assert "for another call (rollback of kind 'instance')" in reply.error["detail"]
    assert [one["pointer"] for one in reply.error["errors"]] == ["Idempotency-Key"]


def test_without_a_key_a_second_rollback_is_another_one_and_finds_the_instance_busy(stage: Stage) -> None:
    body = {"instance_id": "away-16", "target_version": "v0"}
    first = post(stage, "/v1/rollback/instance", body).data
    reply = post(stage, "/v1/rollback/instance", body)
    assert (reply.status, reply.error["type"]) == (409, "instance_busy")
    assert first["rollback_id"] in reply.error["detail"]


def test_a_presigned_retry_of_a_rollback_is_the_same(stage: Stage) -> None:
    body = {"instance_id": "away-17", "target_version": "v2", "package_url": f"{URL}?sig=1"}
    first = post(stage, "/v1/rollback/instance", body, "key-5").data
    again = post(stage, "/v1/rollback/instance", body | {"package_url": f"{URL}?sig=2"}, "key-5")
    assert again.data == first


# ------------------------------------------------------------------------------------------ cancel and wait


def test_a_hundred_cancels_at_once_answer_the_first_time(stage: Stage, here: SimulatedAgent) -> None:
    post(stage, "/v1/deployment", deployment("stop", "here-2", version="v9"))
    stage.run(here.wait_until_held("v9", "here-2"))
    replies = post_many(stage, "/v1/deployment/stop/cancel", {})
    assert len({reply.data["cancelled_at"] for reply in replies}) == 1
    assert {reply.data["status"] for reply in replies} <= {"in_progress", "cancelled"}
    status = stage.call("GET", "/v1/deployment/stop?wait=20s").data
    assert (status["status"], status["cancelled_at"]) == ("cancelled", replies[0].data["cancelled_at"])
    again = stage.call("POST", "/v1/deployment/stop/cancel").data  # without a body, after the end
    assert again == replies[0].data | {"status": "cancelled"}


@pytest.mark.parametrize(("kind", "path"), [("rollback", "/v1/rollback/instance")])
def test_a_repeated_cancel_of_a_rollback_answers_the_first(stage: Stage, kind: str, path: str) -> None:
    rollback = post(stage, path, {"instance_id": "away-20", "target_version": "v0"}).data["rollback_id"]
    first = stage.call("POST", f"/v1/{kind}/{rollback}/cancel").data
    assert stage.call("POST", f"/v1/{kind}/{rollback}/cancel", {}).data == first
    assert first["status"] == "cancelled"


def test_wait_answers_when_the_operation_has_ended(stage: Stage, here: SimulatedAgent) -> None:
    here.courses["v8"] = Course(hold=Phase.DOWNLOADING)
    post(stage, "/v1/deployment", deployment("waited", "here-3", version="v8"))
    stage.run(here.wait_until_held("v8", "here-3"))

    async def wait_and_go_on() -> list[str]:
        async with asyncio.TaskGroup() as group:
            patient, hasty = (
                [
                    group.create_task(stage.request("GET", f"/v1/deployment/waited{query}"))
                    for query in queries
                ]
                for queries in (("?wait=20s", "?wait=1m&instance_limit=1"), ("?wait=0s", ""))
            )
            await asyncio.wait(hasty)
            assert not any(one.done() for one in patient)
            here.go_on("v8")
        return [one.result().data["status"] for one in (*patient, *hasty)]

    assert stage.run(wait_and_go_on()) == ["completed", "completed", "in_progress", "in_progress"]


def test_wait_answers_at_its_time_if_the_operation_goes_on(stage: Stage) -> None:
    post(stage, "/v1/deployment", deployment("patient", "away-21"))
    assert stage.call("GET", "/v1/deployment/patient?wait=50ms").data["status"] == "pending"
