"""Releases good and bad on real systemd: after each, all accounts agree."""

from itertools import pairwise

import pytest

from .agreement import PHASES, agree, live_version
from .host import Host
from .web import SICK
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test


def outcomes(host: Host, deploy_id: str) -> list[str]:
    """The phases of a deployment in their order: `started downloading`, `ended downloading` and so on."""
    fields = f"RELEASEHAND_DEPLOY_ID={deploy_id}"
    host.run("journalctl --sync")
    script = (
        f"journalctl -u releasehand-agent {fields} -o cat | grep -oE 'phase (started|ended) .*phase=[a-z]+'"
    )
    lines = [line.split() for line in host.run(script).output.splitlines()]
    return [f"{words[1]} {words[-1].removeprefix('phase=')}" for words in lines]


def test_a_release_reaches_every_host_and_its_journal_tells_it_by_deployment(world: World) -> None:
    world.publish("v1")
    deploy_id = world.deploy("v1", world.hosts)
    end = world.end_of(deploy_id)
    assert end["status"] == "completed", end
    for host in world.hosts:
        agree(world, host, "v1")
        told = [line for line in outcomes(host, deploy_id) if not line.endswith("queued")]
        assert told == [f"{what} {phase}" for phase in PHASES for what in ("started", "ended")]


def test_a_release_that_does_not_come_up_is_taken_back(world: World) -> None:
    [host, *_] = world.hosts
    before = live_version(host)
    world.publish("sick", run=SICK)
    deploy_id = world.deploy("sick", [host])
    end = world.end_of(deploy_id)
    assert end["status"] == "failed", end
    agree(world, host, before)
    told = outcomes(host, deploy_id)
    assert told[-2:] == ["started reverting", "ended reverting"], told
    assert all(one.split()[0] != two.split()[0] for one, two in pairwise(told)), told


def test_a_rollback_needs_no_origin(world: World) -> None:
    [_, host, _] = world.hosts
    before = live_version(host)
    world.publish("v2")
    assert world.end_of(world.deploy("v2", [host]))["status"] == "completed"
    world.ctl.run("systemctl stop origin")
    try:
        body = {"instance_id": f"web-{host.name}", "target_version": "previous"}
        rollback = world.call("POST", "/v1/rollback/instance", body)["data"]["rollback_id"]
        status = world.call("GET", f"/v1/rollback/{rollback}?wait=60s")["data"]
    finally:
        world.ctl.run("systemctl start origin")
    assert status["status"] == "completed", status
    agree(world, host, before)


def test_a_full_disk_leaves_what_runs_and_says_so(world: World) -> None:
    [_, host, _] = world.hosts
    before = live_version(host)
    world.publish("big", ballast_bytes=300_000_000)
    used = host.run("df -m / | awk 'NR == 2 { print $3 }'").output.strip()
    host.limit_disk(f"{int(used) + 100}m")
    try:
        end = world.end_of(world.deploy("big", [host], retry_count=-1))
    finally:
        host.limit_disk("1g")
        world.ctl.run("rm /opt/packages/big.tar")
    [instance] = end["instances"]
    assert (instance["status"], instance["error_code"]) == ("failed", "no_space"), instance
    agree(world, host, before)
