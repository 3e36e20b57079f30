"""Whose an instance is, over real links: moved, retired, given up by one agent and taken by another."""

import asyncio
from contextlib import suppress

import aiohttp
import pytest

from controller.claimants import EVERY_S
from releasehand import Client
from releasehand.model import FailureCode, Phase, Status
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.clock import FakeClock
from tests.fakes.controller import API_TOKEN, RunningController
from tests.fakes.ledger import deployment
from tests.fakes.looks import reason_of, until_ended


async def call(
    controller: RunningController, method: str, path: str, body: object = None
) -> aiohttp.ClientResponse:
    """A call that the client has no function for; only the status is of use."""
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        return await http.request(method, controller.api + path, json=body)


async def test_a_moved_instance_changes_hands_as_soon_as_both_agents_say_hello_again(
    controller: RunningController, client: Client
) -> None:
    old, new = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"a": "v1", "b": "v1"})
    async with old.linked(controller), new.linked(controller):
        assert new.welcome is not None
        assert [refused.instance_id for refused in new.welcome.refused] == ["a"]
        assert (await call(controller, "POST", "/v1/instance/a/move", {"agent_id": "host-2"})).status == 200
        for agent in (old, new):
            await agent.until(agent.closed.is_set)
            assert agent.close_reason == "an instance has changed hands: say hello again"
    async with old.linked(controller), new.linked(controller):
        assert old.welcome is not None
        assert [refused.instance_id for refused in old.welcome.refused] == ["a"]
        assert new.welcome.refused == []
        await client.execute_deployment(deployment("v2", ["a"]))
        await until_ended(client, "d-v2", Status.COMPLETED)
    assert (len(old.executed), len(new.executed)) == (0, 1)


async def test_retiring_an_instance_stops_what_its_host_does_for_it(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    agent.scripts = [Script(hold=Phase.DOWNLOADING)]
    async with agent.linked(controller):
        await client.execute_deployment(deployment("v2", ["a"]))
        await agent.until_in(Phase.DOWNLOADING, "a")
        assert (await call(controller, "DELETE", "/v1/instance/a")).status == 200
        await agent.until(lambda: agent.cancels)
        status = await client.get_deployment_status("d-v2")
        assert [task.error_code for task in status.instances] == [FailureCode.INSTANCE_RETIRED]


@pytest.mark.parametrize("gives_up", ["drops it", "is retired by hand"])
async def test_a_refused_instance_goes_to_whoever_still_lists_it_once_its_owner_has_given_it_up(
    controller: RunningController, client: Client, clock: FakeClock, gives_up: str
) -> None:
    owner, claimant = FakeAgent("host-1", {"a": "v1", "c": "v1"}), FakeAgent("host-2", {"a": "v1"})
    async with owner.linked(controller), claimant.linked(controller):
        assert claimant.welcome is not None
        assert [refused.instance_id for refused in claimant.welcome.refused] == ["a"]
        clock.advance(EVERY_S)
        assert await reason_of(client, "a") == ""
        assert not claimant.closed.is_set()
        if gives_up == "drops it":
            del owner.versions["a"]
            async with owner.linked(controller):
                await until_asked_again(claimant, clock)
        else:
            assert (await call(controller, "DELETE", "/v1/instance/a")).status == 200
            await until_asked_again(claimant, clock)
    async with claimant.linked(controller):
        assert claimant.welcome.refused == []
        await client.execute_deployment(deployment("v2", ["a"]))
        await until_ended(client, "d-v2", Status.COMPLETED)
    assert len(claimant.executed) == 1


async def until_asked_again(agent: FakeAgent, clock: FakeClock) -> None:
    """Until the controller has had it say hello again."""
    for _ in range(6):  # a round that has not gone to sleep yet misses one; more, and the agent is given up
        clock.advance(EVERY_S)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                await agent.closed.wait()
                break
    assert agent.close_reason == "an instance has changed hands: say hello again"
