"""Tokens of a running controller: limited to services, revoked while calls are open, and what is recorded."""

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import pytest

from controller.api.routes import ROUTES
from releasehand.model import Scope
from shared.clock import SystemClock
from tests.contract import scenario
from tests.contract.simulated import Copy
from tests.contract.stage import BEARER, Reply, Stage, run_stage

OWN, OTHER = scenario.SERVICE, "other-service"
THINGS: Final = {
    "service": (OWN, OTHER, "nothing"),
    "instance_id": ("instance-1", "other-1", "nothing"),
    "deploy_id": ("d-own", "d-other", "nothing"),
    "rollback_id": ("", "", "nothing"),  # filled in when they are known
}
"""By the name of a path's or a body's field: of the limited token's service, of another one, and of none."""
DEPLOYING: Final = {Scope.DEPLOY_READ, Scope.DEPLOY_WRITE}
LIMITED: Final = [route for route in ROUTES if route.scope in DEPLOYING]
NAMING: Final = [
    route.operation_id
    for route in LIMITED
    if route.path_name or (route.request_model and {"service", "instance_id"} & set(route.body.model_fields))
]
LISTS: Final = [route.operation_id for route in LIMITED if route.operation_id.startswith("List")]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    fleet = scenario.make_fleet() | {"host-9": {"other-1": Copy(OTHER, "v1.0.0", ["v1.0.0"])}}
    with run_stage(tmp_path_factory.mktemp("tokens"), fleet) as made:
        yield made


@pytest.fixture(scope="module")
def things(stage: Stage) -> dict[str, tuple[str, str, str]]:
    """A deployment and a rollback of each of the two services, at their ends."""
    found = dict(THINGS)
    rollbacks = []
    for service, instance, deploy_id in ((OWN, "instance-1", "d-own"), (OTHER, "other-1", "d-other")):
        stage.call("POST", "/v1/deployment", deployment(service, instance, deploy_id)).data  # noqa: B018
        assert stage.call("GET", f"/v1/deployment/{deploy_id}?wait=20s").data["status"] == "completed"
        body = {"instance_id": instance, "target_version": "previous"}
        rollback_id = stage.call("POST", "/v1/rollback/instance", body).data["rollback_id"]
        assert stage.call("GET", f"/v1/rollback/{rollback_id}?wait=20s").data["status"] == "completed"
        rollbacks.append(rollback_id)
    found["rollback_id"] = (rollbacks[0], rollbacks[1], "nothing")
    return found


@pytest.fixture(scope="module")
def limited(stage: Stage) -> str:
    return make(stage, "limited", *DEPLOYING, services=[OWN])


def make(stage: Stage, name: str, *scopes: str, services: list[str] | None = None) -> str:
    body = {"name": name, "scopes": list(scopes), "services": services or []}
    return str(stage.call("POST", "/v1/token", body).data["token"])


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def deployment(service: str, instance: str, deploy_id: str) -> dict[str, Any]:
    return {
        "service": service,
        "version": "v9",
        "instances": [instance],
        "package_url": "https://packages.example.com/v9.tar.gz?signature=x",
        "deploy_id": deploy_id,
    }


def ask(stage: Stage, operation: str, token: str, names: dict[str, str]) -> Reply:
    [route] = [route for route in ROUTES if route.operation_id == operation]
    path = route.path.format(**names)
    bodies: dict[str, Any] = {
        "ExecuteDeployment": deployment(names["service"], names["instance_id"], "d-new"),
        "RetryFailed": {"deploy_id": "d-again"},
        "RollbackInstance": {"instance_id": names["instance_id"], "target_version": "v8"},
        "RollbackBatch": {
            "service": names["service"],
            "target_version": "v8",
            "instances": [names["instance_id"]],
        },
    }
    query = "?dry_run=true" if "dry_run" in route.query.model_fields else ""
    return stage.call(route.method, path + query, bodies.get(operation), headers=bearer(token))


@pytest.mark.parametrize("operation", NAMING)
def test_a_limited_token_is_refused_alike_for_what_is_not_its_own_and_for_nothing(
    stage: Stage, things: dict[str, tuple[str, str, str]], limited: str, operation: str
) -> None:
    own, other, nothing = (
        ask(stage, operation, limited, {name: named[at] for name, named in things.items()}) for at in range(3)
    )
    assert own.status in {200, 409}, own.text  # what has ended can neither be cancelled nor retried
    for refused in (other, nothing):
        assert (refused.status, refused.error["type"]) == (403, "forbidden")
    told = [{**refused.error, "request_id": ""} for refused in (other, nothing)]
    assert told[0] == told[1]


def test_a_taken_deploy_id_tells_a_limited_token_that_it_is_taken_and_nothing_of_what_it_is(
    stage: Stage, things: dict[str, tuple[str, str, str]], limited: str
) -> None:
    """See docs/decisions/0011. Whether what is asked for is the other's in all but the service, or in
    nothing, and whether it is asked to happen: the answer is one."""
    alike = deployment(OTHER, "other-1", "d-other") | {"service": OWN, "instances": ["instance-1"]}
    unlike = alike | {
        "version": "v0",
        "package_url": "https://elsewhere.test/x",
        "timeout": 7,
        "retry_count": 9,
    }
    calls = [
        ("/v1/deployment", alike),
        ("/v1/deployment", unlike),
        ("/v1/deployment?dry_run=true", alike),
        ("/v1/deployment?dry_run=true", unlike),
    ]
    replies = [stage.call("POST", path, body, headers=bearer(limited)) for path, body in calls]
    assert {reply.status for reply in replies} == {409}
    told = [{**reply.error, "request_id": ""} for reply in replies]
    assert told == [told[0]] * len(calls)
    assert not [
        value for value in (OTHER, "v9", "other-1", "host-9", "v9.tar.gz") if value in replies[0].text
    ]


@pytest.mark.parametrize("operation", LISTS)
def test_lists_of_a_limited_token_hold_its_own_services_alone(
    stage: Stage, things: dict[str, tuple[str, str, str]], limited: str, operation: str
) -> None:
    [route] = [route for route in ROUTES if route.operation_id == operation]
    everything = stage.call("GET", route.path).data
    mine = stage.call("GET", route.path, headers=bearer(limited)).data
    assert 0 < mine["total"] < everything["total"]
    text = str(mine)
    assert not [name for name in (OTHER, "other-1", "host-9", things["rollback_id"][1]) if name in text]
    if "service" in route.query.model_fields:
        assert stage.call("GET", f"{route.path}?service={OWN}", headers=bearer(limited)).status == 200
        assert stage.call("GET", f"{route.path}?service={OTHER}", headers=bearer(limited)).status == 403


def test_figures_of_everything_are_refused_to_a_limited_token(stage: Stage, limited: str) -> None:
    assert stage.call("GET", "/v1/system/stats", headers=bearer(limited)).status == 403


def test_a_revoked_token_ends_its_streams_and_waits_within_five_seconds(stage: Stage) -> None:
    token = make(stage, "watcher", Scope.DEPLOY_READ)

    async def watch() -> tuple[int, bytes, float]:
        clock = SystemClock()
        url = f"{stage.addresses.api}/v1/deployment/d-waits"
        headers = bearer(token)
        stream = stage.http.get(f"{url}/events", headers=headers | {"Accept": "text/event-stream"})
        async with stream as events:
            await events.content.readline()
            wait = stage.request("GET", "/v1/deployment/d-waits?wait=60s", headers=headers)
            waiting = asyncio.create_task(wait)
            await asyncio.wait([waiting], timeout=0.2)
            assert not waiting.done()
            await stage.request("DELETE", "/v1/token/watcher")
            began = clock.monotonic()
            rest = await events.content.read()
            status = (await waiting).status
        return status, rest, clock.monotonic() - began

    stage.run(stage.unlink("host-2"))
    stage.call("POST", "/v1/deployment", deployment(OWN, "instance-3", "d-waits")).data  # noqa: B018
    status, rest, took_s = stage.run(watch())
    assert (status, b"end_of_log" in rest) == (401, False)
    assert took_s < 5


def test_every_change_is_recorded_once_with_who_made_it(stage: Stage) -> None:
    make(stage, "writer", *DEPLOYING)
    body = deployment(OWN, "instance-4", "d-recorded")
    stage.run(stage.unlink("host-3"))
    steps = [
        ("POST", "/v1/deployment", body, "start_deployment"),
        ("POST", "/v1/deployment", body, ""),  # said again
        ("POST", "/v1/deployment/d-recorded/cancel", None, "cancel_deployment"),
        ("POST", "/v1/deployment/d-recorded/cancel", None, ""),
        (
            "POST",
            "/v1/rollback/instance",
            {"instance_id": "instance-4", "target_version": "v0"},
            "roll_back_instance",
        ),
        ("POST", "/v1/rollback/instance?dry_run=true", {"instance_id": "x", "target_version": "v0"}, ""),
        ("POST", "/v1/instance/other-1/move", {"agent_id": "host-1"}, "move_instance"),
        ("DELETE", "/v1/instance/other-1", None, "retire_instance"),
        ("DELETE", "/v1/token/writer", None, "revoke_token"),
        ("POST", "/v1/deployment", body | {"deploy_id": "d-refused", "instances": ["x"]}, "start_deployment"),
    ]
    for number, (method, path, sent, action) in enumerate(steps):
        request_id = f"step-{number}"
        reply = stage.call(method, path, sent, headers={"X-Request-Id": request_id})
        rows = stage.query(
            "SELECT actor, actor_kind, address, action, outcome, objects FROM audit WHERE request_id = ?",
            request_id,
        )
        outcome = "accepted" if reply.status == 200 else "refused"
        wanted = [("scheduler", "caller", "127.0.0.1", action, outcome)] if action else []
        assert [row[:5] for row in rows] == wanted, f"{method} {path}: {reply.text}"
        assert "signature=x" not in str(rows)


def test_a_copy_of_the_database_holds_no_token_that_could_be_used(stage: Stage, tmp_path: Path) -> None:
    tokens = [make(stage, f"kept-{number}", Scope.DEPLOY_READ) for number in range(3)]
    with (
        closing(sqlite3.connect(f"file:{stage.folder}/controller.db?mode=ro", uri=True)) as live,
        closing(sqlite3.connect(tmp_path / "copy.db")) as copy,
    ):
        live.backup(copy)
        dump = "\n".join(copy.iterdump())
    written = b"".join(file.read_bytes() for file in stage.folder.glob("controller.db*"))
    for token in (*tokens, BEARER["Authorization"].split()[1]):
        assert token not in dump
        assert token.encode() not in written
        assert stage.call("GET", "/v1/service", headers=bearer(token)).status == 200
    assert "kept-0" in dump
