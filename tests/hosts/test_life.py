"""What hosts and operators live through, on real systemd: after each, all accounts agree."""

import json
from collections import Counter
from itertools import pairwise

import pytest

from .host import Host, wait_for
from .world import SICK, World

pytestmark = pytest.mark.timeout(900)  # installing on four hosts counts for the first test

PHASES = ("downloading", "verifying", "unpacking", "staged", "activating", "checking")


def live_version(host: Host) -> str:
    """What the service itself answers."""
    return host.run("curl -sS -m 5 http://127.0.0.1:8081/VERSION", check=False).output.strip()


def agree(world: World, host: Host, version: str) -> None:
    """`current`, the service and the API name one version; every phase in the journal has ended."""
    assert host.run("basename $(readlink /srv/web/current)").output.startswith(f"{version}-")
    wait_for(
        lambda: live_version(host) == version, 15, f"{host.name} answers {version}, not {live_version(host)}"
    )

    def told() -> str:
        answer = world.call("GET", "/v1/service/web/instances")["data"]["instances"]
        found = {one["instance_id"]: one["version"] for one in answer}
        return str(found.get(f"web-{host.name}"))

    wait_for(lambda: told() == version, 40, f"the API says {version} of {host.name}, not {told()}")
    phases = read_phases(host)
    assert phases["started"] == phases["ended"], phases


def read_phases(host: Host) -> dict[str, Counter[str]]:
    """Starts and ends of phases, as the journal has them by its fields."""
    host.run("journalctl --sync")
    text = host.run(
        "journalctl -u releasehand-agent -o json --output-fields=MESSAGE,RELEASEHAND_PHASE"
    ).output
    found: dict[str, Counter[str]] = {"started": Counter(), "ended": Counter()}
    for line in text.splitlines():
        entry = json.loads(line)
        for kind, counts in found.items():
            if f"phase {kind}" in str(entry.get("MESSAGE", "")):
                counts[entry["RELEASEHAND_PHASE"]] += 1
    return found


def pid_of(host: Host, unit: str) -> str:
    return host.run(f"systemctl show -P MainPID {unit}").output.strip()


def test_a_release_reaches_every_host_and_its_journal_tells_it_by_deployment(world: World) -> None:
    world.publish("v1")
    deploy_id = world.deploy("v1", world.hosts)
    end = world.end_of(deploy_id)
    assert end["status"] == "completed", end
    for host in world.hosts:
        agree(world, host, "v1")
        lines = host.run(f"journalctl -u releasehand-agent RELEASEHAND_DEPLOY_ID={deploy_id} -o cat").output
        for phase in PHASES:
            assert f"phase started attempt=1 phase={phase}" in lines, lines
            assert f"phase ended attempt=1 phase={phase} outcome=ok" in lines, lines


def test_a_release_that_does_not_come_up_is_taken_back(world: World) -> None:
    [host, *_] = world.hosts
    before = live_version(host)
    world.publish("sick", run=SICK)
    end = world.end_of(world.deploy("sick", [host]))
    assert end["status"] == "failed", end
    agree(world, host, before)


def test_a_rollback_needs_no_origin(world: World) -> None:
    [_, host, _] = world.hosts
    world.publish("v2")
    assert world.end_of(world.deploy("v2", [host]))["status"] == "completed"
    world.ctl.run("systemctl stop origin")
    try:
        body = {"instance_id": f"web-{host.name}", "target_version": "previous"}
        rollback = world.call("POST", "/v1/rollback/instance", body)["data"]["rollback_id"]
        status = world.call("GET", f"/v1/rollback/{rollback}?wait=60s")["data"]
    finally:
        world.start_origin()
    assert status["status"] == "completed", status
    agree(world, host, "v1")


@pytest.mark.parametrize("phase", PHASES)
def test_an_agent_killed_in_a_phase_ends_it_after_its_restart(world: World, phase: str) -> None:
    [host, *_] = world.hosts
    version = f"killed-in-{phase}"
    world.publish(version, ballast_bytes=20_000_000)
    hold = f"journalctl -u releasehand-agent -f -n 0 -o cat | grep -q -m1 'phase started.* phase={phase}'"
    host.run(
        f'systemd-run --unit=killer-{phase} bash -c "{hold}; kill -9 {pid_of(host, "releasehand-agent")}"'
    )
    web = pid_of(host, "web")
    end = world.end_of(world.deploy(version, [host]))
    assert end["status"] == "completed", end
    agree(world, host, version)
    assert int(host.run("systemctl show -P NRestarts releasehand-agent").output) >= 1
    assert pid_of(host, "web") != web, "a new release is a new process"


def test_restarting_or_killing_the_agent_touches_no_service(world: World) -> None:
    [host, *_] = world.hosts
    web = pid_of(host, "web")
    host.run("systemctl restart releasehand-agent")
    host.run(f"kill -9 {pid_of(host, 'releasehand-agent')}")
    wait_for(
        lambda: host.run("systemctl is-active releasehand-agent", check=False).code == 0, 20, "it is back"
    )
    assert pid_of(host, "web") == web


def test_a_host_without_power_comes_back_with_what_it_had_and_ends_its_work(world: World) -> None:
    [_, _, host] = world.hosts
    world.publish("v3", ballast_bytes=20_000_000)
    deploy_id = world.deploy("v3", [host])
    wait_for(
        lambda: (
            "phase started"
            in host.run(
                f"journalctl -u releasehand-agent RELEASEHAND_DEPLOY_ID={deploy_id} -o cat", check=False
            ).output
        ),
        20,
        "it works",
    )
    host.cut_power()
    host.boot()
    assert world.end_of(deploy_id)["status"] == "completed"
    agree(world, host, "v3")


@pytest.mark.parametrize("way", ["drop", "in", "out"])
def test_work_goes_on_while_the_link_is_cut_and_is_told_afterwards(world: World, way: str) -> None:
    [_, host, _] = world.hosts
    version = f"cut-{way}"
    world.publish(version)
    deploy_id = world.deploy(version, [host])
    host.cut(way)
    try:
        host.run("true")
    finally:
        host.heal()
    assert world.end_of(deploy_id, within_s=180)["status"] == "completed"
    agree(world, host, version)


def test_a_late_and_lossy_link_only_makes_it_slower(world: World) -> None:
    [_, host, _] = world.hosts
    world.publish("slow")
    host.impair(delay_ms=100, loss=5)
    try:
        assert world.end_of(world.deploy("slow", [host]), within_s=180)["status"] == "completed"
    finally:
        host.heal()
    agree(world, host, "slow")


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
    [instance] = end["instances"]
    assert (instance["status"], instance["error_code"]) == ("failed", "no_space"), instance
    agree(world, host, before)


def test_an_agent_that_hangs_is_started_again(world: World) -> None:
    [host, *_] = world.hosts
    web, stopped = pid_of(host, "web"), pid_of(host, "releasehand-agent")
    host.run(f"kill -STOP {stopped}")
    wait_for(lambda: pid_of(host, "releasehand-agent") not in {"0", stopped}, 60, "the watchdog acts")
    wait_for(lambda: world.sees(host), 60, "it is online again")
    assert pid_of(host, "web") == web


def test_an_upgrade_by_package_restarts_the_agent_alone(world: World) -> None:
    [host, *_] = world.hosts
    web, agent = pid_of(host, "web"), pid_of(host, "releasehand-agent")
    world.install(host)
    assert pid_of(host, "web") == web
    assert pid_of(host, "releasehand-agent") not in {"0", agent}
    host.run("systemctl is-enabled releasehand-agent")  # else the next boot would be without it
    wait_for(lambda: world.sees(host), 60, "it is online again")


def test_removal_keeps_state_and_purging_leaves_what_was_deployed(world: World) -> None:
    [*_, host] = world.hosts
    version = live_version(host)
    host.run("dpkg --remove releasehand-daemons")
    host.run("test -f /var/lib/releasehand-agent/agent.db -a -f /etc/releasehand/agent.toml")
    host.run("dpkg --purge releasehand-daemons")
    host.run("test ! -e /var/lib/releasehand-agent -a ! -e /etc/releasehand")
    assert live_version(host) == version


def test_the_journal_pairs_are_in_order(world: World) -> None:
    [host, *_] = world.hosts
    text = host.run(
        "journalctl -u releasehand-agent RELEASEHAND_INSTANCE_ID=web-h1 -o cat | grep -o 'phase [se][a-z]*ed'"
    ).output.splitlines()
    assert all(one != two for one, two in pairwise(text)), "a start is followed by an end, an end by a start"
