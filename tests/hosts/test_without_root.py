"""An agent that is not root: it installs what it owns, restarts what polkit lets it, and can do no more."""

import json
from collections.abc import Iterator

import pytest

from .agreement import agree, live_version, pid_of
from .host import Host, wait_for
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

AGENT = "releasehand-agent-user"
ACCOUNT = "releasehand-agent"
RULES = "/etc/polkit-1/rules.d/50-releasehand-agent.rules"
SICK = "#!/bin/sh\necho not today\nexit 1\n"
OTHER = "[Service]\nExecStart=/bin/sleep infinity\n"


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[Host]:
    """The last host as docs/how-to/non-root-agent.md has it; as root's again afterwards."""
    [*_, host] = world.hosts
    host.run("systemctl disable -q --now releasehand-agent")
    host.run("useradd --system --shell /usr/sbin/nologin shop && chown -R releasehand-agent: /srv/web")
    host.put("/etc/systemd/system/web.service.d/account.conf", "[Service]\nUser=shop\n")
    host.put("/etc/systemd/system/other.service", OTHER)
    host.run("systemctl daemon-reload && systemctl try-restart web")
    host.run(f"releasehand-agent config polkit >{RULES}")
    host.run(f"systemctl enable -q --now {AGENT}")
    wait_for(lambda: world.sees(host), 60, "the agent without root is online")
    world.publish("plain")
    assert world.end_of(world.deploy("plain", [host]))["status"] == "completed"
    yield host
    host.run(f"systemctl disable -q --now {AGENT}")
    host.run(f"rm -r /etc/systemd/system/web.service.d /etc/systemd/system/other.service {RULES}")
    host.run("chown -R root: /srv/web /var/lib/releasehand-agent && systemctl daemon-reload")
    host.run("systemctl restart web && userdel shop && systemctl enable -q --now releasehand-agent")
    wait_for(lambda: world.sees(host), 60, "root's agent is online again")


def test_one_account_installs_another_runs_it_and_neither_is_root(world: World, host: Host) -> None:
    agree(world, host, "plain")
    for unit, account in ((AGENT, ACCOUNT), ("web", "shop")):
        assert host.run(f"ps -o user:32= -p {pid_of(host, unit)}").output.strip() == account
    status = host.run(f"cat /proc/{pid_of(host, AGENT)}/status").output
    assert {line for line in status.splitlines() if line.startswith(("CapEff", "CapBnd"))} == {
        "CapEff:\t0000000000000000",
        "CapBnd:\t0000000000000000",
    }
    assert set(host.run("find /srv/web -printf '%u\\n'").output.split()) == {ACCOUNT}
    refused = host.run("runuser -u shop -- touch /srv/web/current/run /srv/web/other", check=False)
    assert (refused.code, refused.output.count("Permission denied")) == (1, 2)


def test_a_release_that_does_not_come_up_is_taken_back_and_its_words_are_told(
    world: World, host: Host
) -> None:
    world.publish("sick-plain", run=SICK)
    deploy_id = world.deploy("sick-plain", [host])
    end = world.end_of(deploy_id)
    assert end["status"] == "failed", end
    assert end["instances"][0]["phase"] == "reverted", end
    events = world.call("GET", f"/v1/deployment/{deploy_id}/events")["data"]["events"]
    assert any("not today" in event["log_tail"] for event in events)
    agree(world, host, "plain")


def test_a_unit_that_systemd_has_given_up_is_started_with_the_next_release(world: World, host: Host) -> None:
    limit = "/etc/systemd/system/web.service.d/limit.conf"
    host.put(limit, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
    host.run("systemctl daemon-reload && systemctl reset-failed web && systemctl restart web")
    host.run(f"kill -9 {pid_of(host, 'web')}")
    state = "systemctl is-failed web"
    wait_for(lambda: host.run(state, check=False).output.strip() == "failed", 30, "systemd gives it up")
    world.publish("plain-1")
    end = world.end_of(world.deploy("plain-1", [host]))
    host.run(f"rm {limit} && systemctl daemon-reload")
    assert end["status"] == "completed", end
    agree(world, host, "plain-1")


def test_a_rollback_works(world: World, host: Host) -> None:
    world.publish("plain-2")
    before = live_version(host)
    assert world.end_of(world.deploy("plain-2", [host]))["status"] == "completed"
    body = {"instance_id": f"web-{host.name}", "target_version": "previous"}
    rollback = world.call("POST", "/v1/rollback/instance", body)["data"]["rollback_id"]
    assert world.call("GET", f"/v1/rollback/{rollback}?wait=60s")["data"]["status"] == "completed"
    agree(world, host, before)


def test_another_unit_is_refused_and_the_failure_names_the_rule(world: World, host: Host) -> None:
    host.run("systemctl start other")
    other = pid_of(host, "other")
    host.run("sed -i s/web.service/other.service/ /etc/releasehand/agent.toml")
    host.run(f"systemctl restart {AGENT}")
    world.publish("plain-3")
    try:
        end = world.end_of(world.deploy("plain-3", [host]))
    finally:
        host.run("sed -i s/other.service/web.service/ /etc/releasehand/agent.toml")
        host.run(f"systemctl restart {AGENT}")
    assert end["status"] == "failed", end
    [instance] = end["instances"]
    assert (instance["phase"], RULES in instance["error_message"]) == ("reverted", True), end
    assert pid_of(host, "other") == other
    host.run("systemctl stop other")
    assert world.end_of(world.deploy("plain-3", [host]))["status"] == "completed", "and it is mended"
    agree(world, host, "plain-3")


def test_the_doctor_finds_nothing_wrong_and_misses_the_rule_when_it_is_gone(host: Host) -> None:
    well = host.run("releasehand-agent doctor")
    assert "releasehand-agent may restart it" in well.output
    host.run(f"mv {RULES} /root/rules")
    try:
        asked = "releasehand-agent doctor"
        wait_for(lambda: host.run(asked, check=False).code != 0, 20, "polkit knows no rule any more")
        assert f"config polkit >{RULES}" in host.run(asked, check=False).output
    finally:
        host.run(f"mv /root/rules {RULES}")
    wait_for(lambda: host.run("releasehand-agent doctor", check=False).code == 0, 20, "it knows it again")


def test_it_writes_nowhere_but_in_its_roots(host: Host) -> None:
    host.run("mkdir -p /srv/of-root")
    places = ("/etc/releasehand/agent.toml", RULES, "/srv/of-root/x", "/usr/bin/x", "/opt/releasehand/bin/x")
    ids = host.run(f"id -u {ACCOUNT}; id -g {ACCOUNT}").output.split()
    within = (
        f"nsenter -t {pid_of(host, AGENT)} -m -- setpriv --reuid {ids[0]} --regid {ids[1]} --clear-groups"
    )
    for place in places:
        refused = host.run(f"{within} touch {place}", check=False)
        assert refused.code == 1, f"{place}: {refused.output}"
    host.run(f"{within} touch /srv/web/of-its-own")
    host.run("rmdir /srv/of-root && rm /srv/web/of-its-own")


def test_a_killed_agent_goes_on_and_the_service_stays(world: World, host: Host) -> None:
    world.publish("plain-killed", ballast_bytes=20_000_000)
    hold = f"journalctl -u {AGENT} -f -n 0 -o cat | grep -q -m1 'phase started.* phase=unpacking'"
    host.run(f'systemd-run --collect bash -c "{hold}; kill -9 {pid_of(host, AGENT)}"')
    end = world.end_of(world.deploy("plain-killed", [host]))
    assert end["status"] == "completed", end
    agree(world, host, "plain-killed")
    web, killed = pid_of(host, "web"), pid_of(host, AGENT)
    host.run(f"kill -9 {killed}")
    wait_for(lambda: pid_of(host, AGENT) not in {"0", killed}, 60, "it is started again")
    assert pid_of(host, "web") == web


def test_an_upgrade_keeps_the_variant_the_rule_and_the_service(world: World, host: Host) -> None:
    web, agent, rules = pid_of(host, "web"), pid_of(host, AGENT), host.run(f"cat {RULES}").output
    world.install(host)
    assert pid_of(host, AGENT) not in {"0", agent}
    assert host.run("systemctl is-active releasehand-agent", check=False).output.strip() == "inactive"
    assert (pid_of(host, "web"), host.run(f"cat {RULES}").output) == (web, rules)
    wait_for(lambda: world.sees(host), 60, "it is online again")


def test_the_account_itself_can_join_anew(world: World, host: Host) -> None:
    token = world.call("POST", "/v1/join-token", {"host": host.name})["data"]["token"]
    join = "releasehand-agent join --url wss://ctl:8443 --token-file - --again"
    ran = host.run(f"runuser -u {ACCOUNT} -- {join}", stdin=token.encode())
    assert f"agent {host.name} joined" in ran.output
    host.run(f"systemctl restart {AGENT}")
    wait_for(lambda: world.sees(host), 60, "it is online with its new certificate")


def test_its_lines_are_in_the_journal_with_their_fields(world: World, host: Host) -> None:
    world.publish("plain-told")
    deploy_id = world.deploy("plain-told", [host])
    assert world.end_of(deploy_id)["status"] == "completed"
    host.run("journalctl --sync")
    lines = host.run(f"journalctl -u {AGENT} RELEASEHAND_DEPLOY_ID={deploy_id} -o json").output.splitlines()
    assert {json.loads(line)["RELEASEHAND_VERSION"] for line in lines} == {"plain-told"}
