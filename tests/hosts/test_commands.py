"""What operators type on a host: how it stands, what is wrong with it and how that is mended, and how it
leaves."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from .agreement import agree, pid_of
from .host import Host, wait_for
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

VERSION = "told"
SPARE = """
[[instance]]
id = "spare-HOST"
service = "spare"
root = "/opt/spare"
driver = { type = "none" }
"""
DROP_INS = "/etc/systemd/system/releasehand-agent.service.d"


@pytest.fixture(scope="module")
def host(world: World) -> Host:
    """One with a release of this file's."""
    [_, host, _] = world.hosts
    world.publish(VERSION)
    assert world.end_of(world.deploy(VERSION, [host]))["status"] == "completed"
    return host


def status(host: Host, *words: str) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(
        host.run(" ".join(["releasehand-agent status --json", *words])).output
    )
    return answer


def examine(host: Host, *words: str, as_account: str = "root") -> dict[str, dict[str, str]]:
    """What the doctor does not call well, by check; its exit code says whether one is a problem."""
    asked = f"runuser -u {as_account} -- releasehand-agent doctor --json"
    ran = host.run(" ".join([asked, *words]), check=False)
    answer = json.loads(ran.output)
    assert ran.code == (answer["level"] == "problem"), ran
    found = {one["check"]: one for one in answer["findings"] if one["level"] != "ok"}
    found.pop("disk.space", None)  # a lab's disks are small
    return found


@contextmanager
def changed_file(host: Host, path: str, more: str) -> Iterator[None]:
    """`more` at its end, until the block ends."""
    host.run(f"cp -a {path} /root/kept")
    host.run(f"cat >>{path}", stdin=more.encode())
    try:
        yield
    finally:
        host.run(f"mv /root/kept {path}")


# how it stands


def test_status_tells_what_is_deployed_and_done_here(world: World, host: Host) -> None:
    found = status(host, "--wait 60s")
    assert (found["agent_id"], found["link"]["state"]) == (host.name, "online")
    [instance] = found["instances"]
    assert (instance["active"]["version"], instance["state"], instance["problem"]) == (VERSION, "running", "")
    [newest, *_] = found["tasks"]
    assert (newest["version"], newest["phase"], newest["finished"]) == (VERSION, "done", True)
    page = host.run("releasehand-agent status").output
    assert f"agent {host.name}, version " in page
    assert "\x1b" not in page, "no terminal reads this"
    refused = host.run("runuser -u nobody -- releasehand-agent status", check=False)
    assert refused.code == 1
    assert "Permission denied; use root" in refused.output
    agree(world, host, VERSION)


def test_status_works_while_controller_or_agent_are_away(world: World, host: Host) -> None:
    world.ctl.run("systemctl stop releasehand-controller")
    try:
        wait_for(lambda: status(host)["link"]["state"] == "offline", 30, "the agent notices")
        # At first it is why the link ended that stands there.
        wait_for(lambda: "ctl:8443" in status(host)["link"]["why"], 60, "it has tried again")
        found = status(host)
        assert found["link"]["state"] == "offline"
        assert found["instances"][0]["active"]["version"] == VERSION
        waited = host.run("releasehand-agent status --wait 1s", check=False)
        assert waited.code == 1
        assert "not online after 1 s" in waited.output
        problems = examine(host)
        assert set(problems) == {"agent.link", "reach.tcp"}
        assert "nothing listens at ctl:8443" in problems["reach.tcp"]["why"]
        shown = host.run("systemctl show -P StatusText releasehand-agent").output
        assert "no link to the controller" in shown
    finally:
        world.ctl.run("systemctl start releasehand-controller")
    host.run("systemctl stop releasehand-agent")
    found = status(host)
    assert (found["pid"], found["link"]["state"]) == (None, "stopped")
    assert found["instances"][0]["state"] == "running"
    assert found["tasks"]
    host.run("systemctl start releasehand-agent")
    agree(world, host, VERSION)


def test_config_show_tells_where_a_value_is_from(host: Host) -> None:
    page = host.run("RELEASEHAND_AGENT__LOG_FORMAT=json releasehand-agent config show").output
    assert f'id = "web-{host.name}"  # file' in page
    assert 'log_format = "json"  # RELEASEHAND_AGENT__LOG_FORMAT' in page
    assert json.loads(host.run("releasehand-agent config schema").output)["properties"]["agent_id"]


# what is wrong with it


def test_a_host_that_is_well_has_no_findings(host: Host) -> None:
    assert examine(host) == {}


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        ("identity.mode", "chmod 644 /var/lib/releasehand-agent/identity/agent.key"),
        ("unit.enabled", "systemctl disable -q web"),
        ("agent.unit", "systemctl disable -q --now releasehand-agent"),
        ("agent.reload", "touch /lib/systemd/system/releasehand-agent.service"),
        ("unit.reload", "touch /etc/systemd/system/web.service"),
    ],
)
def test_what_is_printed_mends_it(world: World, host: Host, check: str, spoil: str) -> None:
    host.run(spoil)
    found = examine(host)
    assert set(found) == {check}
    host.run(found[check]["mend"])
    assert examine(host).keys() <= {"agent.link"}  # it may have been started just now
    agree(world, host, VERSION)


def test_a_root_outside_of_the_sandbox_is_opened_as_printed(world: World, host: Host) -> None:
    spare: dict[str, Any] = {"service": "spare", "instances": [f"spare-{host.name}"], "retry_count": -1}
    with changed_file(host, "/etc/releasehand/agent.toml", SPARE.replace("HOST", host.name)):
        try:
            found = examine(host)
            assert set(found) == {"root.sandbox"}
            assert "ProtectSystem=strict" in found["root.sandbox"]["what"]
            host.run("systemctl restart releasehand-agent && releasehand-agent status --wait 60s")
            closed = world.end_of(world.deploy(VERSION, [host], **spare))
            assert closed["instances"][0]["error_code"] == "host_error", "it is true"
            host.run(found["root.sandbox"]["mend"])
            host.run("releasehand-agent status --wait 60s")
            assert examine(host) == {}
            opened = world.end_of(world.deploy(VERSION, [host], **spare))
            assert opened["status"] == "completed", "and it is mended"
            host.run("mount -t tmpfs -o ro tmpfs /opt/spare")
            found = examine(host)
            assert set(found) == {"disk.read_only"}
            host.run(found["disk.read_only"]["mend"])
            assert examine(host) == {}
        finally:
            host.run("umount /opt/spare; rm -rf /opt/spare " + DROP_INS, check=False)
    host.run("systemctl daemon-reload && systemctl restart releasehand-agent")
    agree(world, host, VERSION)


def test_units_that_are_missing_or_closed_in_are_found(host: Host) -> None:
    for driver, check in (
        ('{ type = "systemd", unit = "gone.service" }', "unit.exists"),
        ('{ type = "command", start = ["./run"] }', "driver.sandbox"),
    ):
        instance = SPARE.replace('{ type = "none" }', driver).replace("/opt/", "/srv/")
        host.run("cat /etc/releasehand/agent.toml - >/root/other.toml", stdin=instance.encode())
        assert set(examine(host, "--config /root/other.toml")) == {check}
    host.run("rm /root/other.toml")


def test_a_full_disk_is_found(host: Host) -> None:
    free = host.run("df -m / | awk 'NR == 2 { print $4 }'").output.strip()
    host.run(f"fallocate -l {int(free) - 5}M /var/ballast")
    try:
        ran = host.run("releasehand-agent doctor --json", check=False)
        [state_dir, root] = [
            one for one in json.loads(ran.output)["findings"] if one["check"] == "disk.space"
        ]
        assert (state_dir["level"], root["level"]) == ("problem", "problem")
        assert "MiB left in the file system of /var/lib/releasehand-agent" in state_dir["what"]
        # A lab's files are on an overlay, where du finds them on another device than their folders.
        assert host.run(state_dir["mend"]).output.endswith("\t/\n"), "it can be typed, and measures this disk"
    finally:
        host.run("rm /var/ballast")


def test_a_cut_cable_is_found_step_by_step(world: World, host: Host) -> None:
    host.cut("drop")
    try:
        found = examine(host)
    finally:
        host.heal()
    assert (
        "no answer from ctl:8443 in time" in found["reach.tcp"]["why"] or "route" in found["reach.tcp"]["why"]
    )
    agree(world, host, VERSION)


def test_an_agent_without_root_is_told_what_it_may_not_do(world: World, host: Host) -> None:
    rules = "/etc/polkit-1/rules.d/50-releasehand-agent.rules"
    host.run(
        "systemctl disable -q --now releasehand-agent && systemctl enable -q --now releasehand-agent-user"
    )
    try:
        host.run("releasehand-agent status --wait 60s")
        as_itself = "runuser -u releasehand-agent -- releasehand-agent"
        host.run(f"{as_itself} status --wait 1s")
        assert examine(host, as_account="releasehand-agent")["unit.allowed"]["level"] == "warning"
        found = examine(host)
        assert set(found) == {"root.write", "unit.allowed", "unit.account"}
        for check in ("root.write", "unit.allowed"):
            host.run(found[check]["mend"])
        wait_for(lambda: set(examine(host)) == {"unit.account"}, 20, "polkit has read its rules")
    finally:
        host.run(f"systemctl disable -q --now releasehand-agent-user; rm -f {rules}", check=False)
        host.run("chown -R root: /srv/web /var/lib/releasehand-agent")
        host.run("systemctl enable -q --now releasehand-agent")
    agree(world, host, VERSION)


# how it leaves


def test_a_host_leaves_and_joins_again_and_its_service_stays(world: World, host: Host) -> None:
    web = pid_of(host, "web")
    refused = host.run("releasehand-agent leave", check=False)
    assert refused.code == 1
    assert "systemctl disable --now releasehand-agent" in refused.output
    host.run("systemctl disable -q --now releasehand-agent")
    host.cut("down")
    try:
        away = host.run("releasehand-agent leave", check=False)
    finally:
        host.heal()
    assert away.code == 1
    assert "Nothing was changed" in away.output
    left = host.run("releasehand-agent leave").output
    assert f"agent {host.name} left wss://ctl:8443" in left
    assert "1 instance released" in left
    assert "nothing to leave" in host.run("releasehand-agent leave").output
    listed = world.call("GET", "/v1/service/web/instances")["data"]["instances"]
    assert f"web-{host.name}" not in {one["instance_id"] for one in listed}
    records = world.call("GET", "/v1/audit?action=leave")["data"]["records"]
    assert [(one["actor"], one["actor_kind"]) for one in records][:1] == [(host.name, "agent")]
    assert set(examine(host)) == {"agent.unit", "identity"}
    host.run(world.call("POST", "/v1/join-token", {"host": host.name})["data"]["command"])
    host.run("systemctl enable -q --now releasehand-agent")
    agree(world, host, VERSION)
    assert pid_of(host, "web") == web
