"""Killed anywhere, the agent goes on and ends right: every effect of a deployment is crossed with a kill.

The kill is an exception that nothing catches; tests that kill a real process stand beside this file."""

from collections.abc import Callable
from pathlib import Path

import pytest

from agent.core.recovery import MAX_STARTS
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase
from shared.attempt import LIVE, PAST_NO_RETURN
from shared.frames import Move
from tests.fakes.host import Host, Killed, deploy, ref_of


def scenario_install(host: Host) -> str:
    return ""


def scenario_update(host: Host) -> str:
    return "v1"


def scenario_sick(host: Host) -> str:
    host.check.sick = lambda version: version == "v2"
    return "v1"


def scenario_sick_first(host: Host) -> str:
    host.service.refuse = lambda name: name.startswith("v2")
    return ""


SCENARIOS: dict[str, tuple[Callable[[Host], str], Phase, str]] = {
    "install": (scenario_install, Phase.DONE, "v2"),
    "update": (scenario_update, Phase.DONE, "v2"),
    "sick": (scenario_sick, Phase.REVERTED, "v1"),
    "sick first": (scenario_sick_first, Phase.REVERTED, ""),
}
STRAIGHT = [
    "queued:left",
    "downloading:entered",
    "fetched",
    "downloading:left",
    "verifying:entered",
    "verifying:left",
    "unpacking:entered",
    "unpacked",
    "committed",
    "unpacking:left",
    "staged:entered",
    "staged:left",
    "activating:entered",
    "switched",
]
POINTS = {
    "install": [*STRAIGHT, "restarted", "activating:left", "checking:entered", "checked", "checking:left"],
    "update": [*STRAIGHT, "restarted", "activating:left", "checking:entered", "checked", "checking:left"],
    "sick": [
        *STRAIGHT,
        "restarted",
        "activating:left",
        "checking:entered",
        "checking:left",
        "reverting:entered",
        "switched#2",
        "restarted#2",
        "checked",
        "reverting:left",
    ],
    "sick first": [*STRAIGHT, "activating:left", "reverting:entered", "switched#2", "reverting:left"],
}


def kill_at(point: str, seen: list[str]) -> Callable[[str], None]:
    """A checkpoint that notes what it is told and kills at `point`; `name#2` is the second time."""

    def checkpoint(name: str) -> None:
        count = 1 + sum(one.partition("#")[0] == name for one in seen)
        seen.append(name if count == 1 else f"{name}#{count}")
        if seen[-1] == point:
            raise Killed

    return checkpoint


async def run_until_killed(host: Host, *, generation: int) -> None:
    killed = False
    try:
        async with host.boot():
            await host.carry_out(deploy("v2", generation))
    except* Killed:
        killed = True
    assert killed


async def prepare(host: Host, scenario: str) -> None:
    first = SCENARIOS[scenario][0](host)
    if first:
        async with host.boot():
            await host.carry_out(deploy(first, 1))


def assert_one_chain(moves: list[Move]) -> None:
    """Each move once and behind the one before it, numbered without a gap."""
    assert [move.n for move in moves] == list(range(moves[0].n, moves[0].n + len(moves)))
    assert moves[0].left is None
    assert [move.left for move in moves[1:]] == [move.entered for move in moves[:-1]]


@pytest.mark.parametrize("scenario", sorted(SCENARIOS))
async def test_the_points_are_those_that_a_run_passes(scenario: str, tmp_path: Path) -> None:
    host, seen = Host(tmp_path), list[str]()
    await prepare(host, scenario)
    host.checkpoint = kill_at("never", seen)
    async with host.boot():
        await host.carry_out(deploy("v2", 2))
    assert seen[:-1] == POINTS[scenario]
    assert seen[-1] == f"{SCENARIOS[scenario][1]}:entered"


@pytest.mark.parametrize(
    ("scenario", "point"), [(scenario, point) for scenario, points in POINTS.items() for point in points]
)
async def test_a_killed_agent_ends_what_it_began(scenario: str, point: str, tmp_path: Path) -> None:
    _, expected, live = SCENARIOS[scenario]
    host = Host(tmp_path)
    await prepare(host, scenario)
    host.checkpoint = kill_at(point, [])
    await run_until_killed(host, generation=2)
    host.checkpoint = lambda _: None
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is expected
        assert end.end is not None
        assert end.end.active.version == live
        assert host.live_version == live
        assert host.service.running == (host.current or None)
        assert_one_chain([move for move in await host.moves() if move.generation == 2])
        assert host.left_over() == []
        [state] = await host.executor.states()
        assert state.active.version == live
        assert not state.broken


@pytest.mark.parametrize("phase", sorted(LIVE))
async def test_an_attempt_that_brings_the_agent_down_thrice_is_given_up(phase: Phase, tmp_path: Path) -> None:
    host = Host(tmp_path)
    await prepare(host, "update")
    if phase is Phase.REVERTING:
        host.check.sick = lambda version: version == "v2"
    host.checkpoint = kill_at(f"{phase}:left", [])
    await run_until_killed(host, generation=2)
    for _ in range(MAX_STARTS - 1):
        host.checkpoint = kill_at(f"{phase}:left", [])
        killed = False
        try:
            async with host.boot():
                await host.wait_for_end(ref_of(2))
        except* Killed:
            killed = True
        assert killed
    host.checkpoint = lambda _: None
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is (Phase.REVERTED if phase in PAST_NO_RETURN else Phase.FAILED)
        assert end.end is not None
        expected = FailureCode.CHECK_FAILED if phase is Phase.REVERTING else FailureCode.CRASH_LOOP
        assert end.end.code is expected
        assert host.live_version == "v1"
        assert host.service.running == host.current


async def test_a_link_changed_by_hand_during_an_activation_is_taken_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await prepare(host, "update")
    host.checkpoint = kill_at("switched", [])
    await run_until_killed(host, generation=2)
    (host.root / "current").unlink()
    host.checkpoint = lambda _: None
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is Phase.REVERTED
        assert end.end is not None
        assert "changed by somebody else" in end.end.message
        assert host.live_version == "v1"


async def test_a_reboot_in_the_check_starts_the_service_and_goes_on(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.checkpoint = kill_at("checking:entered", [])
    await run_until_killed(host, generation=2)
    host.service.running, host.boot_id, host.checkpoint = None, "boot-2", lambda _: None
    host.clock.advance(60)
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is Phase.DONE
        assert host.service.running == host.current


async def test_an_activation_that_was_away_beyond_all_bounds_is_taken_back(tmp_path: Path) -> None:
    host = Host(tmp_path)
    await prepare(host, "update")
    host.checkpoint = kill_at("switched", [])
    await run_until_killed(host, generation=2)
    host.checkpoint = lambda _: None
    host.clock.advance(300 + 120 + 1)
    async with host.boot():
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is Phase.REVERTED
        assert host.live_version == "v1"


async def test_a_graceful_stop_leaves_the_attempt_to_the_next_start(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.fetcher.gate.clear()
    async with host.boot():
        await host.executor.execute(deploy("v2", 2))
        await host.fetcher.entered.wait()
    host.fetcher.gate.set()
    async with host.boot():
        assert [one.phase for one in host.executor.open_attempts()] == [Phase.DOWNLOADING]
        end = await host.wait_for_end(ref_of(2))
        assert end.entered is Phase.DONE
        assert host.left_over() == []


async def test_what_only_waited_is_not_blamed_for_a_crash(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.check.gate.clear()
    for _ in range(MAX_STARTS):
        async with host.boot():
            await host.executor.execute(deploy("v1", 1))
            await host.check.entered.wait()
            await host.executor.execute(deploy("v2", 2))
            host.check.entered.clear()
    host.check.gate.set()
    async with host.boot():
        ends = [await host.wait_for_end(ref_of(1)), await host.wait_for_end(ref_of(2))]
        assert [end.entered for end in ends] == [Phase.REVERTED, Phase.DONE]
        assert host.live_version == "v2"
