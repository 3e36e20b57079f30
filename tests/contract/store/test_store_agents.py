"""What hosts say: whose instances they are, what is live on them, and who can be heard."""

from datetime import timedelta
from typing import Any

import pytest

from controller.store.tables import AGENT, EVENT, INSTANCE
from releasehand.model import FailureCode, OperationKind, Presence, ServiceState
from shared.attempt import Outcome
from shared.frames import Active, Heartbeat, Hello, InstancePulse, Kept
from tests.fakes.ledger import NO_KEY, Host, Ledger, ended, enrol, listed, live, open_ledger

O = Outcome


def pulse(host: Host, *versions: tuple[str, str], **said: Any) -> Heartbeat:
    """A heartbeat written where the host's outbox stands."""
    instances = [
        InstancePulse(instance_id=name, active=live(version), state=ServiceState.RUNNING)
        for name, version in versions
    ]
    values: dict[str, Any] = {"instances": instances, "last_n": host.n} | said
    return Heartbeat(**values)


async def found(ledger: Ledger, instance_id: str, service: str = "user") -> Any:
    page = await ledger.store.service_instances(service, status=None, version="", limit=100, offset=0)
    return next((one for one in page.instances if one.instance_id == instance_id), None)


# claims


async def test_the_first_agent_that_lists_an_instance_owns_it(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    other = Host(ledger.store, ledger.clock, "host-2")
    greeting = await other.greet(listed("a", "v9"), listed("b", "v2"))
    assert [refused.instance_id for refused in greeting.refused] == ["a"]
    assert "host-1" in greeting.refused[0].reason
    assert {row["instance_id"]: row["agent_id"] for row in await ledger.rows(INSTANCE)} == {
        "a": "host-1",
        "b": "host-2",
    }
    assert (await found(ledger, "a")).version == "v1"
    assert "claim_refused" in [row["event"] for row in await ledger.rows(EVENT)]


async def test_what_a_host_says_of_itself_is_kept_with_its_agent(ledger: Ledger) -> None:
    hello = Hello(
        agent_id="host-1",
        agent_version="0",
        host="here",
        boot_id="b",
        incarnation="i",
        last_n=0,
        instances=[],
    )
    serial = await enrol(ledger.store, "host-1")
    for facts in ({"rack": "a7", "unpack_landlock": "missing"}, {"unpack_landlock": "abi 7"}):
        await ledger.store.greet(hello.model_copy(update={"metadata": facts}), serial, NO_KEY)
        assert [row["facts"] for row in await ledger.rows(AGENT)] == [facts]


async def test_an_instance_listed_twice_is_taken_once(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    greeting = await host.greet(listed("a", "v1"), listed("a", "v2"))
    assert [refused.reason for refused in greeting.refused] == ["listed twice"]
    assert (await found(ledger, "a")).version == "v1"


async def test_what_runs_already_is_adopted_with_a_history_entry(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", "v1"), listed("empty"))
    assert await ledger.history("a") == [("v1", "adopt", "success")]
    assert await ledger.history("empty") == []


async def test_an_instance_that_is_listed_no_more_is_retired_and_comes_back(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await host.greet(listed("a", "v1"))
    assert await found(ledger, "b") is None
    assert (await ledger.store.service_versions("user", include_stopped=True)).answer.total_instances == 1
    assert await ledger.history("b") == [("v1", "adopt", "success")]
    await host.greet(listed("a", "v1"), listed("b", "v1"))
    assert (await found(ledger, "b")).agent_id == "host-1"


async def test_a_retired_instance_can_be_taken_over(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await host.greet(listed("a", "v1"))
    other = Host(ledger.store, ledger.clock, "host-2")
    greeting = await other.greet(listed("b", "v5"))
    assert greeting.refused == []
    taken = await found(ledger, "b")
    assert (taken.agent_id, taken.version, taken.drift) == ("host-2", "v5", None)
    assert await ledger.history("b") == [("v1", "adopt", "success"), ("v5", "adopt", "success")]
    again = await host.greet(listed("a", "v1"), listed("b", "v1"))
    assert [refused.instance_id for refused in again.refused] == ["b"]


async def test_generations_never_go_below_what_a_host_has_accepted(ledger: Ledger) -> None:
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", "v1", generation=41))
    task = await ledger.start("v2", "a")
    assert task.generation == 42
    await host.greet(listed("a", "v1", generation=7))
    assert (await ledger.rows(INSTANCE))[0]["generation"] == 42


# drift


async def test_a_changed_version_at_hello_is_drift(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await host.greet(listed("a", "v9"))
    seen = await found(ledger, "a")
    assert (seen.version, seen.drift.expected, seen.drift.found) == ("v9", "v1", "v9")
    assert (await ledger.history("a"))[-1] == ("v9", "drift", "success")
    await host.greet()
    assert len(await ledger.history("a")) == 2


async def test_a_changed_version_in_a_heartbeat_is_drift_once(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    beat = pulse(host, ("a", "v9"), ("b", "v1"))
    assert await ledger.store.observe("host-1", host.epoch, beat)
    assert await ledger.store.observe("host-1", host.epoch, beat)
    assert (await found(ledger, "a")).drift.found == "v9"
    assert (await ledger.history("a"))[1:] == [("v9", "drift", "success")]
    assert len(await ledger.history("b")) == 1


async def test_a_heartbeat_tells_which_releases_are_kept_where_that_is_news(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    before = {row["instance_id"]: row["releases"] for row in await ledger.rows(INSTANCE)}
    kept = [Kept(release="v1-abababababab", version="v1", sha256="ab" * 32, good=True, pinned=True)]
    beat = pulse(host, ("a", "v1"), ("b", "v1"))
    news = beat.instances[0].model_copy(update={"releases": kept})
    assert await ledger.store.observe(
        "host-1", host.epoch, beat.model_copy(update={"instances": [news, beat.instances[1]]})
    )
    after = {row["instance_id"]: row["releases"] for row in await ledger.rows(INSTANCE)}
    assert after == {"a": [one.model_dump(mode="json") for one in kept], "b": before["b"]}
    assert await ledger.store.observe("host-1", host.epoch, beat)
    assert {row["instance_id"]: row["releases"] for row in await ledger.rows(INSTANCE)} == after


async def test_drift_that_went_back_is_over(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.store.observe("host-1", host.epoch, pulse(host, ("a", "v9")))
    await ledger.store.observe("host-1", host.epoch, pulse(host, ("a", "v1")))
    assert (await found(ledger, "a")).drift is None


async def test_what_a_waiting_report_will_explain_is_no_drift(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    moves = host.moves(task, [O.OK] * 7)
    assert not await ledger.store.observe("host-1", host.epoch, pulse(host, ("a", "v2")))
    await host.greet(listed("a", "v2"))
    assert (await ledger.history("a"))[1:] == []
    await host.tell(moves)
    assert (await ledger.history("a"))[1:] == [("v2", "deploy", "success")]
    assert await ledger.store.observe("host-1", host.epoch, pulse(host, ("a", "v2")))
    assert (await found(ledger, "a")).drift is None


async def test_a_heartbeat_from_before_a_recorded_report_changes_nothing(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    old = pulse(host, ("a", "v1"))
    await ledger.install(host, "v2", "a")
    assert not await ledger.store.observe("host-1", host.epoch, old)
    assert (await found(ledger, "a")).version == "v2"


async def test_an_activation_in_its_check_is_not_shown_as_drift(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    await host.work(task, [O.OK] * 6)  # activated, being checked
    assert await ledger.store.observe("host-1", host.epoch, pulse(host, ("a", "v2")))
    seen = await found(ledger, "a")
    assert (seen.version, seen.drift) == ("v2", None)


async def test_an_older_session_s_heartbeat_counts_no_more(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    epoch = host.epoch
    await host.greet()
    assert not await ledger.store.observe("host-1", epoch, pulse(host, ("a", "v9")))
    assert (await found(ledger, "a")).version == "v1"


async def test_a_heartbeat_speaks_for_its_own_instances_only(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    other = await ledger.host("host-2", ["b"], "v1")
    await ledger.store.observe("host-2", other.epoch, pulse(other, ("a", "v9"), ("nobody", "v9")))
    assert (await found(ledger, "a")).version == "v1"


async def test_an_emptied_instance_is_drift_to_nothing(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    beat = pulse(host).model_copy(
        update={"instances": [InstancePulse(instance_id="a", active=Active(), state=ServiceState.STOPPED)]}
    )
    await ledger.store.observe("host-1", host.epoch, beat)
    assert (await found(ledger, "a")).drift.found == ""
    assert (await ledger.history("a"))[-1] == ("", "drift", "success")


# sessions


async def test_a_new_session_is_told_what_is_wanted_and_what_is_recorded(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b", "c"], "v1")
    accepted = await ledger.deploy("v2", ["a", "b", "c"], "d1")
    a, b, _ = await ledger.dispatch(accepted.task_ids[:2] + accepted.task_ids[2:]) or []
    await host.work(a, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    await ledger.cancel("d1")
    greeting = await host.greet()
    assert (greeting.epoch, greeting.acked) == (2, host.n)
    wanted = {one.instance_id: one.cancel for one in greeting.wanted}
    assert wanted == {"b": True, "c": True}
    assert b.id in greeting.changed.woken


async def test_a_new_incarnation_starts_its_numbers_again(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    host.incarnation, host.n = "inc-2", 0
    assert (await host.greet()).acked == 0


# presence


async def presence(ledger: Ledger) -> dict[str, str]:
    return {row["agent_id"]: row["presence"] for row in await ledger.rows(AGENT)}


async def test_silence_is_found_and_written_once(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.host("host-2", ["b"], "v1")
    ledger.clock.advance(46)
    await ledger.store.write_live_state(heartbeats={"host-2": ledger.clock.now()}, presence={}, progress=[])
    silent = await ledger.store.find_silent(ledger.clock.now() - timedelta(seconds=45))
    assert silent == {"host-1": (host.epoch, Presence.OFFLINE)}
    await ledger.store.write_live_state(heartbeats={}, presence=silent, progress=[])
    assert await presence(ledger) == {"host-1": "offline", "host-2": "online"}
    assert await ledger.store.find_silent(ledger.clock.now() - timedelta(seconds=45)) == {}
    assert await ledger.store.count_agents() == {Presence.OFFLINE: 1, Presence.ONLINE: 1}
    assert [row["event"] for row in await ledger.rows(EVENT)].count("agent_offline") == 1


async def test_an_older_session_cannot_say_that_an_agent_is_gone(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    epoch = host.epoch
    await host.greet()
    await ledger.store.write_live_state(
        heartbeats={}, presence={"host-1": (epoch, Presence.OFFLINE)}, progress=[]
    )
    assert await presence(ledger) == {"host-1": "online"}


async def test_an_agent_that_is_heard_again_is_online_again(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    gone = {"host-1": (host.epoch, Presence.OFFLINE)}
    await ledger.store.write_live_state(heartbeats={}, presence=gone, progress=[])
    await ledger.store.write_live_state(heartbeats={"host-1": ledger.clock.now()}, presence={}, progress=[])
    assert await presence(ledger) == {"host-1": "online"}
    assert (await found(ledger, "a")).status == "running"


async def test_after_a_restart_nobody_is_online_until_heard(database_url: str) -> None:
    async with open_ledger(database_url) as first:
        await first.host("host-1", ["a"], "v1")
    async with open_ledger(database_url, first.clock) as second:
        assert await presence(second) == {"host-1": "suspect"}
        task = await second.deploy("v2", ["a"])
        assert task.result.total_instances == 1
        assert (await found(second, "a")).status == "running"


@pytest.mark.parametrize("kind", [OperationKind.DEPLOYMENT])
async def test_progress_of_an_attempt_that_is_over_is_dropped(ledger: Ledger, kind: OperationKind) -> None:
    await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1")
    await ledger.store.write_live_state(heartbeats={}, presence={}, progress=[(task.id, 1, 10, 100)])
    await ledger.store.write_live_state(heartbeats={}, presence={}, progress=[(task.id, 2, 99, 100)])
    one = await ledger.instance("d1", "a")
    assert (one.bytes_done, one.bytes_total, task.kind) == (10, 100, kind)
