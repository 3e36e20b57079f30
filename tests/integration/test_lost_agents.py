"""Agents whose packets vanish without a word: how soon that is seen, and how soon they are back. On counted
time, with the real controller, links and agents (tests/simulation)."""

import asyncio
from collections import Counter
from collections.abc import Callable

from controller.hub.hub import reconnect_window_s
from releasehand.model import DeployParams, OperationKind
from tests.simulation.fleet import ACTOR, Fleet, simulated_fleet
from tests.simulation.host import SERVICE, url_of

HOSTS = {f"h{number}": (f"i{number}",) for number in range(30)}
LOST = tuple(HOSTS)[:20]
THEIRS = [name for host in LOST for name in HOSTS[host]]
SUSPECT_S, OFFLINE_S = 20.0, 45.0
WRITTEN_S = 1.2  # what links see reaches the tables once a second
PROXY_S = 60.0


async def until(fleet: Fleet, found: Callable[[], bool], *, at_most_s: float) -> float:
    """How many seconds it took, which are at most so many."""
    started = fleet.clock.monotonic()
    while not found():
        assert fleet.clock.monotonic() - started <= at_most_s, f"not within {at_most_s} s"
        await fleet.pass_time(0.1)
    return fleet.clock.monotonic() - started


def presence(fleet: Fleet) -> dict[str, str]:
    return {row["agent_id"]: row["presence"] for row in fleet.query("SELECT agent_id, presence FROM agent")}


def all_are(fleet: Fleet, wanted: str) -> bool:
    seen = presence(fleet)
    return all(seen[name] == wanted for name in LOST)


async def deploy(fleet: Fleet, name: str, instances: list[str]) -> None:
    params = DeployParams(
        service=SERVICE,
        version="v1-slow",
        instances=instances,
        package_url=url_of("v1-slow"),
        deploy_id=name,
        timeout=600,
    )
    accepted = await fleet.call(lambda store: store.accept_deployment(params, actor=ACTOR))
    assert accepted is not None
    fleet.controller.wake(accepted.task_ids)


def waits(fleet: Fleet) -> Counter[str]:
    """What the open tasks wait for."""
    rows = fleet.query("SELECT waiting_for FROM task WHERE status IN ('pending', 'in_progress')")
    return Counter(row["waiting_for"] for row in rows)


def test_agents_whose_packets_vanish_are_suspect_after_20_s_and_offline_after_45_and_no_other_is() -> None:
    async def play(fleet: Fleet) -> None:
        await fleet.pass_time(3)
        await deploy(fleet, "before", THEIRS[:10])  # on the host while it is lost
        await fleet.pass_time(1)
        assert waits(fleet) == {"agent_working": 10}
        for name in LOST:
            fleet.part(name, for_s=1e6)
        await deploy(fleet, "after", THEIRS[10:])  # sent into the void
        suspect_s = await until(fleet, lambda: all_are(fleet, "suspect"), at_most_s=SUSPECT_S + WRITTEN_S)
        assert None not in waits(fleet)
        left_s = OFFLINE_S + WRITTEN_S - suspect_s
        await until(fleet, lambda: all_are(fleet, "offline"), at_most_s=left_s)
        await fleet.pass_time(1)
        assert waits(fleet) == {"agent_offline": 20}
        others = presence(fleet).keys() - set(LOST)
        assert {presence(fleet)[name] for name in others} == {"online"}
        rows = fleet.query("SELECT agent_id FROM event WHERE event IN ('agent_suspect', 'agent_offline')")
        assert {row["agent_id"] for row in rows} == set(LOST)

    with simulated_fleet(HOSTS, seed=1, tally=Counter()) as (fleet, runner):
        runner.run(play(fleet))


def test_a_lost_agent_is_back_within_the_reconnect_window_and_a_second() -> None:
    """Whenever its host is back: tries to connect made meanwhile have lost their first packets, too."""

    async def play(fleet: Fleet) -> None:
        await fleet.pass_time(3)
        await deploy(fleet, "open", THEIRS)
        lost_at = fleet.clock.monotonic()
        back_at = {name: lost_at + OFFLINE_S + 2 + 0.7 * number for number, name in enumerate(LOST)}
        for name, at in back_at.items():
            fleet.part(name, for_s=at - lost_at)
        limit_s = reconnect_window_s(len(HOSTS)) + 1 + WRITTEN_S
        while back_at:
            await fleet.pass_time(0.2)
            seen, now = presence(fleet), fleet.clock.monotonic()
            late = {name: now - at for name, at in back_at.items() if now - at > limit_s}
            assert not late, f"not back within {limit_s} s: {late}"
            back_at = {name: at for name, at in back_at.items() if at > now or seen[name] != "online"}
        await until(fleet, lambda: not waits(fleet), at_most_s=60)
        [row] = fleet.query("SELECT status FROM operation")
        assert row["status"] == "completed"

    with simulated_fleet(HOSTS, seed=7, tally=Counter()) as (fleet, runner):
        runner.run(play(fleet))


def test_an_idle_link_behind_a_proxy_that_cuts_at_60_s_never_flaps() -> None:
    """The proxy cuts a link when either direction has been quiet for so long."""

    async def cut_idle(fleet: Fleet) -> None:
        while True:
            await fleet.clock.sleep(1)
            for connection in fleet.connections.values():
                used_at = min(connection.up.used_at, connection.down.used_at)
                if fleet.clock.monotonic() - used_at >= PROXY_S:
                    connection.cut()

    async def play(fleet: Fleet) -> None:
        proxy = asyncio.create_task(cut_idle(fleet))
        await fleet.pass_time(6 * 60)
        proxy.cancel()
        events = Counter(
            (row["agent_id"], row["event"])
            for row in fleet.query("SELECT agent_id, event FROM event WHERE event LIKE 'agent_%'")
        )
        assert events == {("a", "agent_connected"): 1, ("b", "agent_connected"): 1}

    with simulated_fleet({"a": ("a1",), "b": ("b1",)}, seed=3, tally=Counter()) as (fleet, runner):
        runner.run(play(fleet))


def test_a_cancel_is_answered_at_once_and_keeps_a_host_that_is_away_from_ever_starting() -> None:
    async def play(fleet: Fleet) -> None:
        await fleet.pass_time(3)
        for name in LOST:
            fleet.part(name, for_s=30)
        await deploy(fleet, "cancelled", THEIRS)
        await fleet.pass_time(2)  # sent, as the controller believes
        asked_at = fleet.clock.monotonic()
        cancelled = await fleet.call(
            lambda store: store.cancel(OperationKind.DEPLOYMENT, "cancelled", actor=ACTOR)
        )
        assert cancelled is not None
        assert fleet.clock.monotonic() - asked_at < 1
        fleet.controller.wake(cancelled.task_ids)
        assert waits(fleet) == {"cancel_confirmation": len(THEIRS)}
        for name in LOST[:5]:
            await fleet.kill_agent(name, silently=True, down_s=5)  # what was under way to it is lost
        await fleet.pass_time(45)
        [row] = fleet.query("SELECT status FROM operation")
        assert row["status"] == "cancelled"
        assert not any(fleet.hosts[name].ledger.activations for name in LOST)

    with simulated_fleet(HOSTS, seed=5, tally=Counter()) as (fleet, runner):
        runner.run(play(fleet))
