"""Bad links: work goes on without the controller, which learns afterwards what became of it."""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import pytest

from .agreement import agree
from .holding import Work, held
from .host import Host, wait_for
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test


@contextmanager
def cut(ways: Mapping[Host, str]) -> Iterator[None]:
    """Cut each host in its way; healed afterwards."""
    with ExitStack() as stack:
        for host, way in ways.items():
            stack.callback(host.heal)
            host.cut(way)
        yield


def await_presence(world: World, host: Host, *presences: str) -> None:
    """Until the controller says one of these of the host's agent."""
    wait_for(
        lambda: world.presence(host) in presences,
        180,
        lambda: f"{host.name} is {presences}, not {world.presence(host)}",
    )


def assert_not_told(work: Work) -> None:
    told = work.world.call("GET", f"/v1/deployment/{work.deploy_id}")["data"]
    assert told["status"] == "in_progress", told


def test_work_goes_on_while_the_link_is_cut_and_is_told_afterwards(world: World) -> None:
    [one, two, _] = world.hosts
    with ExitStack() as healing:
        with held(world, [one, two], "activating", "cut-both-ways") as work:
            healing.enter_context(cut({one: "drop", two: "down"}))
        for host in (one, two):
            work.await_end_on(host)
            await_presence(world, host, "offline")
        assert_not_told(work)
    work.ends_well()


def test_work_goes_on_while_the_link_is_cut_one_way_and_is_told_afterwards(
    world: World, bad_cable: None
) -> None:
    [_, one, two] = world.hosts
    with ExitStack() as healing:
        with held(world, [one, two], "activating", "cut-one-way") as work:
            healing.enter_context(cut({one: "in", two: "out"}))
        for host in (one, two):
            work.await_end_on(host)
        await_presence(world, two, "suspect", "offline")  # nothing of it is heard
        assert_not_told(work)
    work.ends_well()


def test_a_download_that_the_link_was_cut_in_goes_on_afterwards(world: World) -> None:
    [*_, host] = world.hosts
    with ExitStack() as healing:
        with held(world, [host], "downloading", "cut-download") as work:
            healing.enter_context(cut({host: "down"}))
        await_presence(world, host, "suspect", "offline")
        assert_not_told(work)
    work.ends_well()


def test_a_late_and_lossy_link_only_makes_it_slower(world: World, bad_cable: None) -> None:
    [_, host, _] = world.hosts
    world.publish("slow")
    host.impair(delay_ms=100, loss=5)
    try:
        end = world.end_of(world.deploy("slow", [host]), within_s=180)
    finally:
        host.heal()
    assert end["status"] == "completed", end
    agree(world, host, "slow")
