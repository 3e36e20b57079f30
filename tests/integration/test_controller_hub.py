"""The agents' port: who is let in, which link counts, and what is heard over it."""

import asyncio

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from releasehand import Client
from releasehand.model import Period, Phase, Status
from shared.attempt import Outcome
from shared.clock import SystemClock
from shared.frames import Move, Ref, Report, encode
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.clock import FakeClock
from tests.fakes.controller import API_TOKEN, RunningController
from tests.fakes.ledger import deployment
from tests.fakes.looks import reason_of, until_ended, until_reason


async def test_who_shows_no_certificate_is_refused_with_words(controller: RunningController) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(controller.hub, ssl=controller.strangers_tls(), proxy=None):
            pass
    assert refused.value.response.status_code == 401
    assert b"showed no certificate: a host joins first" in refused.value.response.body


async def test_a_certificate_lets_in_its_own_agent_only(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller, by="host-2", named="host-1"):
        assert agent.refusal is not None
        assert agent.refusal.code == "wrong_agent"
        await agent.until(agent.closed.is_set)
    assert (await client.get_system_stats(Period.HOUR)).instances.total == 0


async def test_an_agent_without_an_instance_is_online_and_takes_one_later(
    controller: RunningController,
) -> None:
    agent = FakeAgent("host-1", {})
    async with aiohttp.ClientSession(headers={"Authorization": f"Bearer {API_TOKEN}"}) as http:
        for versions in ({}, {"a": "v1"}, {}):
            agent.versions = versions
            async with agent.linked(controller), http.get(f"{controller.api}/v1/agent") as answer:
                [listed] = (await answer.json())["data"]["agents"]
                assert (listed["status"], listed["total_instances"]) == ("online", len(versions))


@pytest.mark.parametrize(
    "garbage",
    [
        "not json",
        b"\xff\xfe",
        "{}",
        '{"type": "nothing", "v": 1}',
        '{"type": "heartbeat", "v": 2}',
        '{"type": "welcome", "v": 1}',
        '{"type": "progress", "ref": {"instance_id": "a", "generation": 0, "task": 1, "attempt": 1}}',
        '{"type": "report", "incarnation": "x", "moves": [{}]}',
        "[" * 100_000,
    ],
    ids=["text", "bytes", "empty", "type", "version", "not ours", "ref", "report", "deep"],
)
async def test_garbage_is_refused_by_name_and_ends_that_link_alone(
    controller: RunningController, client: Client, garbage: str | bytes
) -> None:
    agent, other = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
    async with agent.linked(controller), other.linked(controller):
        await agent.send(garbage)
        await agent.until(lambda: agent.refusal and agent.closed.is_set())
        assert agent.refusal is not None
        assert agent.refusal.code == "bad_frame"
        await client.execute_deployment(deployment("v2", ["b"]))
        await until_ended(client, "d-v2", Status.COMPLETED)


async def test_a_second_hello_is_refused(controller: RunningController) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        await agent.send(encode(agent.hello()))
        await agent.until(lambda: agent.refusal and agent.closed.is_set())
        assert agent.refusal is not None
        assert agent.refusal.code == "unexpected_frame"


HUGE = 10**30


async def test_numbers_beyond_the_database_s_hurt_nobody_else(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent, other = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
    agent.scripts = [Script(hold=Phase.DOWNLOADING)]
    async with other.linked(controller):
        async with agent.linked(controller):
            await client.execute_deployment(deployment("v2", ["a"], "d-a"))
            await agent.until_in(Phase.DOWNLOADING, "a")
            ref = '{"instance_id": "a", "generation": 1, "task": 1, "attempt": 1}'
            await agent.send(f'{{"type": "progress", "ref": {ref}, "bytes_done": {HUGE}}}')
            await agent.until(agent.closed.is_set)
            assert agent.refusal is not None
            assert agent.refusal.code == "bad_frame"
        async with agent.linked(controller):
            agent.go_on()
            await until_ended(client, "d-a", Status.COMPLETED)
        clock.advance(1)
        await client.execute_deployment(deployment("v2", ["b"], "d-b"))
        await until_ended(client, "d-b", Status.COMPLETED)
        clock.advance(1)
        assert (await client.get_system_health()).database == "ok"


async def test_the_newest_link_of_an_agent_counts(controller: RunningController, client: Client) -> None:
    old, new = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-1", {"a": "v1"})
    async with old.linked(controller), new.linked(controller):
        await old.until(old.closed.is_set)
        assert old.close_reason == "a newer link of the same agent is here"
        assert new.welcome is not None
        assert new.welcome.session_epoch == 2
        await client.execute_deployment(deployment("v2", ["a"]))
        await until_ended(client, "d-v2", Status.COMPLETED)
    assert (len(old.executed), len(new.executed)) == (0, 1)


async def test_a_silent_agent_is_suspect_then_offline_and_cut_off(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    silent, lively = FakeAgent("host-1", {"a": "v1"}), FakeAgent("host-2", {"b": "v1"})
    async with silent.linked(controller), lively.linked(controller):

        def pass_time() -> None:
            clock.advance(1)
            lively.beat()

        await until_reason(client, "a", "agent_offline", pass_time)
        await silent.until(silent.closed.is_set)
        assert not lively.closed.is_set()
        assert await reason_of(client, "b") == ""
        silence_s = clock.monotonic() - 1_000
        assert silence_s >= 45
    async with silent.linked(controller):
        await until_reason(client, "a", "", lambda: clock.advance(1))


async def test_an_agent_that_left_is_offline_after_a_while(
    controller: RunningController, client: Client, clock: FakeClock
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        pass
    assert await reason_of(client, "a") == ""
    await until_reason(client, "a", "agent_offline", lambda: clock.advance(2))
    assert clock.monotonic() - 1_000 >= 45


async def test_the_controller_beats_too(controller: RunningController, clock: FakeClock) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        clock.advance(12.1)
        await agent.until(lambda: agent.heard_beats)


async def test_a_heartbeat_equal_to_the_last_but_after_a_deployment_is_looked_at(
    controller: RunningController, client: Client
) -> None:
    """v1, then v2 by us, then v1 again by hand: both heartbeats say v1, and the second one is drift."""
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        agent.beat()
        await client.execute_deployment(deployment("v2", ["a"]))
        await until_ended(client, "d-v2", Status.COMPLETED)
        agent.versions["a"] = "v1"
        async with asyncio.timeout(10):
            while (await client.get_service_instances("user")).instances[0].drift is None:
                agent.beat()
                await SystemClock().sleep(0.05)


async def test_reports_that_change_nothing_are_counted_where_anybody_can_look(
    controller: RunningController, client: Client
) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        await client.execute_deployment(deployment("v2", ["a"]))
        await until_ended(client, "d-v2", Status.COMPLETED)
        before = (await client.get_system_stats(Period.HOUR)).reports
        assert (before.rejected, before.closed_session) == (0, 0)
        [done] = [Ref.model_validate(one.ref) for one in agent.executed]
        forged = Move(
            instance_id="a",
            generation=done.generation,
            task=done.task + 1,
            attempt=1,
            n=agent.acked + 1,
            at=SystemClock().now(),
            left=None,
            outcome=Outcome.OK,
            entered=Phase.QUEUED,
        )
        copy = forged.model_copy(update={"n": 1})
        await agent.send(encode(Report(incarnation=agent.incarnation, moves=[copy, copy, forged])))
        async with asyncio.timeout(10):
            while not (after := (await client.get_system_stats(Period.HOUR)).reports).rejected:
                await SystemClock().sleep(0.02)
    assert (after.rejected, after.out_of_order - before.out_of_order) == (1, 2)
