"""Hosts and the controller lose power in the middle of a deployment: what was begun ends as it must."""

import pytest

from .holding import HELD, held
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test


@pytest.mark.parametrize("phase", HELD)
def test_a_host_without_power_ends_its_work_when_it_is_back(world: World, phase: str) -> None:
    [*_, host] = world.hosts
    with held(world, [host], phase, f"dark-{phase}") as work:
        host.cut_power()
        host.boot()
    work.ends_well()


def test_a_controller_without_power_knows_afterwards_what_became_of_its_deployment(world: World) -> None:
    with held(world, world.hosts, "activating", "dark-controller") as work:
        world.ctl.cut_power()
    for host in world.hosts:
        work.await_end_on(host)
    world.ctl.boot()
    work.ends_well()


def test_all_without_power_at_once_go_on_when_it_is_back(world: World) -> None:
    [one, two, three] = world.hosts
    with held(world, [one, two, three], "checking", "dark-all") as work:
        for host in (world.ctl, one, two, three):
            host.cut_power()
        for host in (three, world.ctl, one, two):
            host.boot()
    work.ends_well()


def test_a_controller_that_is_killed_loses_no_deployment(world: World) -> None:
    with held(world, world.hosts, "downloading", "killed-controller") as work:
        world.ctl.run("systemctl kill -s KILL --kill-who=main releasehand-controller")
    work.ends_well()
