"""The agents' port: who is let in, which link counts, and who is cut off."""

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import aiohttp
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from controller.claimants import EVERY_S
from controller.hub.hub import MAX_GREETING
from releasehand import Client
from releasehand.model import FailureCode, Period, Phase, Status
from shared.attempt import Outcome
from shared.clock import SystemClock
from shared.frames import Move, Ref, Report, encode
from shared.session import MAX_QUEUED_FRAMES
from tests.fakes.agent import FakeAgent, Script
from tests.fakes.clock import FakeClock
from tests.fakes.controller import API_TOKEN, RunningController, running_controller
from tests.fakes.ledger import deployment


async def call(
    controller: RunningController, method: str, path: str, body: object = None
) -> aiohttp.ClientResponse:
    """A call that the client has no function for; only the status is of use."""
    headers = {"Authorization": f"Bearer {API_TOKEN}"}
    async with aiohttp.ClientSession(headers=headers) as http:
        return await http.request(method, controller.api + path, json=body)


async def reason_of(client: Client, instance_id: str) -> str:
    page = await client.get_service_instances("user")
    return next(one.status_reason for one in page.instances if one.instance_id == instance_id)


async def until_reason(client: Client, instance_id: str, reason: str, nudge: Callable[[], None]) -> None:
    async with asyncio.timeout(10):
        while await reason_of(client, instance_id) != reason:
            nudge()
            await SystemClock().sleep(0.02)


async def until_ended(client: Client, deploy_id: str, status: Status) -> None:
    async with asyncio.timeout(20):
        while (await client.get_deployment_status(deploy_id)).status is not status:
            await SystemClock().sleep(0.05)


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


async def test_a_frame_that_is_too_large_ends_the_link(controller: RunningController) -> None:
    agent = FakeAgent("host-1", {"a": "v1"})
    async with agent.linked(controller):
        await agent.send("x" * ((1 << 20) + 1))
        await agent.until(agent.closed.is_set)


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
