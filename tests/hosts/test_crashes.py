"""Agents that are killed, restarted and hung in the middle of their work: the work ends as it must."""

import pytest

from .agreement import agree, live_version, pid_of
from .holding import HELD, held
from .host import wait_for
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

AGENT = "releasehand-agent"


@pytest.mark.parametrize("phase", HELD)
def test_an_agent_killed_in_a_phase_ends_it_after_its_restart(world: World, phase: str) -> None:
    [host, *_] = world.hosts
    web, killed = pid_of(host, "web"), pid_of(host, AGENT)
    with held(world, [host], phase, f"killed-{phase}") as work:
        host.run(f"kill -9 {killed}")
        if phase != "staged":  # there systemd stands still too
            wait_for(lambda: pid_of(host, AGENT) not in {"0", killed}, 60, "it is started again")
    work.ends_well()
    assert pid_of(host, AGENT) not in {"0", killed}
    assert pid_of(host, "web") != web, "a new release is a new process"


@pytest.mark.parametrize("phase", ["activating", "checking", "reverting"])
def test_an_agent_that_is_restarted_past_the_point_of_no_return_ends_its_work(
    world: World, phase: str
) -> None:
    [_, host, _] = world.hosts
    before = pid_of(host, AGENT)
    with held(world, [host], phase, f"restarted-{phase}") as work:
        host.run(f"systemctl restart {AGENT}")
        assert pid_of(host, AGENT) not in {"0", before}
    work.ends_well()


def test_restarting_or_killing_the_agent_touches_no_service(world: World) -> None:
    [_, _, host] = world.hosts
    web = pid_of(host, "web")
    host.run(f"systemctl restart {AGENT}")
    killed = pid_of(host, AGENT)
    host.run(f"kill -9 {killed}")
    wait_for(lambda: pid_of(host, AGENT) not in {"0", killed}, 60, "it is started again")
    agree(world, host, live_version(host))
    assert pid_of(host, "web") == web


def test_an_agent_that_hangs_is_started_again(world: World) -> None:
    [*_, host] = world.hosts
    web, version = pid_of(host, "web"), live_version(host)
    # The unit's own 30 s would pass as well, but take as long.
    folder = f"/run/systemd/system/{AGENT}.service.d"
    host.put(f"{folder}/watchdog.conf", "[Service]\nWatchdogSec=4s\n")
    host.run(f"systemctl daemon-reload && systemctl restart {AGENT}")
    stopped = pid_of(host, AGENT)
    host.run(f"kill -STOP {stopped}")
    wait_for(lambda: pid_of(host, AGENT) not in {"0", stopped}, 60, "the watchdog acts")
    host.run(f"rm -r {folder} && systemctl daemon-reload && systemctl restart {AGENT}")
    agree(world, host, version)
    assert pid_of(host, "web") == web
