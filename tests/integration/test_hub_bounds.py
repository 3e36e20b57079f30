"""What one agent may take of the agents' port: beyond it the link ends or waits, and nobody else does."""

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from controller.hub.hub import MAX_GREETING
from releasehand import Client
from releasehand.model import Status
from shared.clock import SystemClock
from shared.session import MAX_QUEUED_FRAMES
from tests.fakes.agent import FakeAgent
from tests.fakes.clock import FakeClock
from tests.fakes.controller import RunningController, running_controller
from tests.fakes.ledger import deployment
from tests.fakes.looks import until_ended


async def test_a_frame_that_is_too_large_ends_the_link(controller: RunningController) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        await agent.send("x" * ((1 << 20) + 1))
        await agent.until(agent.closed.is_set)


async def test_an_agent_of_thousands_of_instances_that_reads_is_not_cut_off(
    controller: RunningController, client: Client
) -> None:
    names = [f"i-{n}" for n in range(MAX_QUEUED_FRAMES + 50)]
    agent = FakeAgent("host-1", dict.fromkeys(names, "v1"))
    async with agent.linked(controller):
        await client.execute_deployment(deployment("v2", names))
        await until_ended(client, "d-v2", Status.COMPLETED)
        assert not agent.closed.is_set()
    assert len(agent.executed) == len(names)


async def test_an_agent_that_does_not_read_is_cut_off_and_holds_up_nobody(
    tmp_path: Path, clock: FakeClock
) -> None:
    names = [f"i-{n}" for n in range(1_000)]
    deaf, other = FakeAgent("host-1", dict.fromkeys(names, "v1")), FakeAgent("host-2", {"b": "v1"})
    long_url = "https://packages.example.com/" + "x" * 4_000
    async with (
        running_controller(tmp_path, clock, send_timeout_s=0.5) as controller,
        controller.client() as client,
        deaf.linked(controller, buffer_bytes=4_096),
        other.linked(controller),
    ):
        deaf.stop_reading()
        await client.execute_deployment(deployment("v2", names, "big", package_url=long_url))
        await client.execute_deployment(deployment("v2", ["b"], "small"))
        await until_ended(client, "small", Status.COMPLETED)
        async with asyncio.timeout(30):
            while (await client.get_deployment_status("big")).instances[-1].waiting_for != "agent_offline":
                await SystemClock().sleep(0.1)
        deaf.read_on()


async def test_a_connection_beyond_the_limit_is_refused_with_words(tmp_path: Path, clock: FakeClock) -> None:
    async with running_controller(tmp_path, clock, max_connections=1) as controller:
        first, second = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
        async with first.linked(controller):
            with pytest.raises(InvalidStatus) as refused:
                async with second.linked(controller):
                    pass
            assert refused.value.response.status_code == 503
            assert b"takes no more" in refused.value.response.body
        async with asyncio.timeout(10):
            while not await can_link(second, controller):
                await SystemClock().sleep(0.02)


async def can_link(agent: FakeAgent, controller: RunningController) -> bool:
    try:
        async with agent.linked(controller):
            return agent.welcome is not None
    except InvalidStatus:
        return False


async def test_connections_that_never_say_hello_are_few_for_each_agent(controller: RunningController) -> None:
    tls = await controller.tls("host-1")
    async with AsyncExitStack() as silent:
        for _ in range(MAX_GREETING):
            await silent.enter_async_context(connect(controller.hub, ssl=tls, proxy=None))
        with pytest.raises(InvalidStatus) as refused:
            async with connect(controller.hub, ssl=tls, proxy=None):
                pass
        assert b"wait for their hello already" in refused.value.response.body
        async with FakeAgent("host-2", {"b": "v1"}).linked(controller) as other:
            assert other.welcome is not None


async def test_an_agent_that_floods_is_read_slowly_and_holds_up_nobody(
    controller: RunningController, client: Client, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    flood, other = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
    async with AsyncExitStack() as links:
        await links.enter_async_context(flood.linked(controller))
        await links.enter_async_context(other.linked(controller))
        junk = '{"type": "heartbeat", "v": 1, "last_n": 0, "junk": "%s"}' % ("x" * 1_000_000)
        sending = asyncio.create_task(send_for_ever(flood, junk))
        async with asyncio.timeout(20):
            while "agent sends too much" not in caplog.text:
                await SystemClock().sleep(0.02)
        await client.execute_deployment(deployment("v2", ["b"], "small"))
        await until_ended(client, "small", Status.COMPLETED)
        assert not sending.done()
        sending.cancel()
        passing = asyncio.create_task(pass_time(clock))  # to the end of its pauses
        await links.aclose()
        passing.cancel()


async def pass_time(clock: FakeClock) -> None:
    while True:
        clock.advance(1)
        await SystemClock().sleep(0.01)


async def send_for_ever(agent: FakeAgent, text: str) -> None:
    while True:
        await agent.send(text)
