"""A hundred instances of which three fail, each for its own reason, and the retry that touches only them."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import aiohttp

from releasehand import Client
from releasehand.model import DeployStatus, FailureCode, Phase, Status
from shared.clock import SystemClock
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.clock import FakeClock
from tests.fakes.controller import API_TOKEN, RunningController
from tests.fakes.ledger import deployment

GOOD = [f"good-{n:02}" for n in range(97)]
BAD = ["away", "forged", "full"]
HOSTS = ("host-good", "host-away", "host-forged", "host-full")


async def until(client: Client, deploy_id: str, **wanted: int) -> DeployStatus:
    async with asyncio.timeout(20):
        while True:
            status = await client.get_deployment_status(deploy_id)
            if all(getattr(status.progress, name) == count for name, count in wanted.items()):
                return status
            await SystemClock().sleep(0.05)


async def retry(controller: RunningController, deploy_id: str, again: str) -> tuple[int, dict[str, Any]]:
    url = f"{controller.api}/v1/deployment/{deploy_id}/retry-failed"
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    async with (
        aiohttp.ClientSession(headers=headers) as http,
        http.post(url, json={"deploy_id": again}) as answer,
    ):
        return answer.status, await answer.json()


async def test_three_of_a_hundred_fail_with_their_own_codes_and_alone_are_retried(
    controller: RunningController, clock: FakeClock
) -> None:
    good = FakeAgent("host-good", dict.fromkeys(GOOD, "v1"))
    away, forged, full = (FakeAgent(f"host-{name}", {name: "v1"}) for name in BAD)
    forged.scripts = [Script(fail=FailureCode.SIGNATURE_INVALID, at=Phase.VERIFYING)]
    full.scripts = [Script(fail=FailureCode.NO_SPACE, at=Phase.UNPACKING)]
    async with controller.client() as client, AsyncExitStack() as links:
        async with away.linked(controller):
            pass
        for agent in (good, forged, full):
            await links.enter_async_context(agent.linked(controller))
        await client.execute_deployment(deployment("v2", [*GOOD, *BAD], "first", timeout=5, retry_count=-1))
        await until(client, "first", completed=97, failed=2, pending=1)
        assert (await retry(controller, "first", "again"))[1]["error"]["type"] == "not_ended"

        clock.advance(5)
        status = await until(client, "first", pending=0)
        assert (status.status, status.progress.completed) == (Status.FAILED, 97)
        failed = {one.instance_id: one.error_code for one in status.instances if one.status is Status.FAILED}
        assert failed == {
            "away": FailureCode.AGENT_OFFLINE,
            "forged": FailureCode.SIGNATURE_INVALID,
            "full": FailureCode.NO_SPACE,
        }
        assert (await client.get_service_instance_versions("user")).version_summary == {"v1": 3, "v2": 97}

        await links.enter_async_context(away.linked(controller))
        answers = [await retry(controller, "first", "again") for _ in range(2)]
        assert [code for code, _ in answers] == [200, 200]
        assert answers[0][1]["data"]["total_instances"] == 3
        status = await until(client, "again", pending=0)
        assert (status.status, [one.instance_id for one in status.instances]) == (Status.COMPLETED, [*BAD])
        assert len(good.executed) == 97
        assert [len(agent.executed) for agent in (away, forged, full)] == [1, 2, 2]
        assert (await retry(controller, "again", "third"))[1]["error"]["type"] == "nothing_failed"
        assert (await retry(controller, "first", "first"))[1]["error"]["type"] == "deploy_id_conflict"
        assert (await retry(controller, "nothing", "third"))[0] == 404
