"""Release logs, lists and the past, asked from a real controller with agents on real links."""

import asyncio
import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from releasehand.model import FailureCode, Phase
from shared.clock import SystemClock
from tests.contract.simulated import Copy, Course
from tests.contract.stage import BEARER, Stage, run_stage
from tests.fakes.event_stream import Sent, read_events

STREAM = {**BEARER, "Accept": "text/event-stream"}


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    fleet = {
        "host-1": {"web-1": Copy("web", "v1"), "web-2": Copy("web", "v1")},
        "host-2": {"web-3": Copy("web", "v1", kept=["v1"]), "shop-1": Copy("shop", "v1")},
    }
    with run_stage(tmp_path_factory.mktemp("logs"), fleet) as made:
        yield made


def deploy(stage: Stage, deploy_id: str, version: str, *instances: str, wait: bool = True) -> Any:
    body = {
        "service": "web",
        "version": version,
        "instances": list(instances),
        "package_url": f"https://packages.example.com/web/{version}.tar.gz?X-Signature=secret",
        "deploy_id": deploy_id,
        "retry_count": -1,
    }
    reply = stage.call("POST", "/v1/deployment", body)
    return stage.call("GET", f"/v1/deployment/{deploy_id}?wait=20s").data if wait else reply.data


async def read(stage: Stage, path: str, *, until: str = "", **headers: str) -> list[Sent]:
    """The events of a stream, up to its end or the first of a kind."""
    said = {**STREAM, **{name.replace("_", "-"): text for name, text in headers.items()}}
    found: list[Sent] = []
    async with asyncio.timeout(20), stage.http.get(stage.addresses.api + path, headers=said) as response:
        assert response.status == 200
        async for sent in read_events(response):
            found += [sent] if sent.event else []
            if until and sent.event == until:
                break
    return found


def test_a_stream_tells_what_happens_while_it_happens_and_goes_on_where_it_was_cut(stage: Stage) -> None:
    stage.agents["host-1"].courses["v2"] = Course(hold=Phase.DOWNLOADING)
    deploy(stage, "d-live", "v2", "web-1", "web-2", wait=False)
    path = "/v1/deployment/d-live/events"

    async def watch() -> list[Sent]:
        first = await read(stage, path, until="phase_ended")
        await stage.agents["host-1"].wait_until_held("v2", "web-1")
        watching = asyncio.create_task(read(stage, path, Last_Event_ID=first[-1].id))
        stage.agents["host-1"].go_on("v2")
        return first + await watching

    told = stage.run(watch())
    pages = stage.call("GET", f"{path}?limit=1000").data
    assert [json.loads(sent.data) for sent in told[:-1]] == pages["events"]
    assert [int(sent.id) for sent in told[:-1]] == [event["id"] for event in pages["events"]]
    end = {"deploy_id": "d-live", "rollback_id": "", "status": "completed"}
    assert (told[-1].event, json.loads(told[-1].data)) == ("end_of_log", end)
    of_one = [event for event in pages["events"] if event["instance_id"] == "web-1"]
    assert stage.call("GET", f"{path}?instance_id=web-1").data["events"] == of_one
    phases = [event["phase"] for event in of_one if event["kind"] == "phase_ended"]
    assert phases == [event["phase"] for event in of_one if event["kind"] == "phase_started"]
    assert (phases[0], phases[-1]) == ("queued", "checking")
    assert not [event for event in pages["events"] if "secret" in json.dumps(event)]


def test_the_log_of_a_rollback_is_read_by_its_id_alone(stage: Stage) -> None:
    deploy(stage, "d-shop-base", "v5", "web-3")
    body = {"instance_id": "web-3", "target_version": "previous"}
    rollback_id = stage.call("POST", "/v1/rollback/instance", body).data["rollback_id"]
    told = stage.run(read(stage, f"/v1/rollback/{rollback_id}/events"))
    assert json.loads(told[-1].data)["rollback_id"] == rollback_id
    assert stage.call("GET", f"/v1/deployment/{rollback_id}/events").error["type"] == "unknown_deployment"
    listed = stage.call("GET", "/v1/rollback?rollback_type=instance&service=web&status=completed").data
    assert [one["rollback_id"] for one in listed["rollbacks"]] == [rollback_id]


def test_lists_answer_with_what_was_asked_for(stage: Stage) -> None:
    stage.agents["host-1"].courses["v3"] = Course(fail=FailureCode.ARCHIVE_REFUSED, at=Phase.UNPACKING)
    before = SystemClock().now().isoformat()
    deploy(stage, "d-good", "v6", "web-3")
    deploy(stage, "d-bad", "v3", "web-1")
    listed = stage.call("GET", "/v1/deployment", params={"since": before, "limit": "1"}).data
    assert ([one["deploy_id"] for one in listed["deployments"]], listed["total"]) == (["d-bad"], 2)
    failed = stage.call("GET", "/v1/deployment", params={"since": before, "status": "failed"}).data
    assert [one["deploy_id"] for one in failed["deployments"]] == ["d-bad"]
    services = stage.call("GET", "/v1/service?name=WE").data["services"]
    assert [(one["service"], one["total_instances"], one["running"]) for one in services] == [("web", 3, 3)]
    instances = stage.call("GET", "/v1/instance?agent_id=host-2&status=running").data
    assert [(one["instance_id"], one["service"]) for one in instances["instances"]] == [
        ("shop-1", "shop"),
        ("web-3", "web"),
    ]
    agents = stage.call("GET", "/v1/agent?status=online&name=2.example").data["agents"]
    assert [(one["agent_id"], one["total_instances"]) for one in agents] == [("host-2", 2)]


def test_what_ran_before_a_deployment_is_told_after_it(stage: Stage) -> None:
    deploy(stage, "d-past-1", "v7", "web-2")
    at = SystemClock().now().isoformat()
    deploy(stage, "d-past-2", "v8", "web-2")

    def live(**params: str) -> Any:
        data = stage.call("GET", "/v1/service/web/versions", params=params).data
        return {one["instance_id"]: one["version"] for one in data["instances"]}["web-2"], data["at"]

    assert live() == ("v8", None)
    assert live(at=at)[0] == "v7"
    assert datetime.fromisoformat(live(at=at)[1]).timestamp() == pytest.approx(
        datetime.fromisoformat(at).timestamp(), abs=0.002
    )
    wrong = stage.call("GET", "/v1/service/web/versions?at=yesterday")
    assert (wrong.status, wrong.error["errors"][0]["pointer"]) == (400, "at")
