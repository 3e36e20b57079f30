"""What a unit hands to its daemon beside the file: credentials, and another form of the log."""

import json

import pytest

from .host import Host, LabError, wait_for
from .world import API, World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

SECRET = "a-caller-that-only-systemd-knows"
CREDENTIALS = "/etc/releasehand/credentials"
HANDED = f"""\
[Service]
LoadCredential=config.database:{CREDENTIALS}/database
LoadCredential=config.api.tokens.ci:{CREDENTIALS}/token-ci
LoadCredential=secrets.key:{CREDENTIALS}/secrets.key
Environment=RELEASEHAND_CONTROLLER__SECRETS__KEY_FILE=%d/secrets.key
"""
CHECK = "releasehand-controller config check --config /etc/releasehand/controller.toml"


def hand(host: Host, daemon: str, lines: str) -> None:
    """Restart the daemon with a drop-in; without one for no lines."""
    folder = f"/etc/systemd/system/{daemon}.service.d"
    if lines:
        host.put(f"{folder}/handed.conf", lines)
    else:
        host.run(f"rm -rf {folder}")
    host.run(f"systemctl daemon-reload && systemctl restart {daemon}")


def test_the_controller_has_its_secrets_from_files_that_it_could_not_read(world: World) -> None:
    ctl, state = world.ctl, "/var/lib/releasehand-controller"
    ctl.put(f"{CREDENTIALS}/database", f"sqlite:///{state}/controller.db\n", mode=0o600)
    ctl.put(f"{CREDENTIALS}/token-ci", f"{SECRET}\n", mode=0o600)
    ctl.run(f"cp {state}/secrets.key {CREDENTIALS}/ && chmod 600 {CREDENTIALS}/*")
    hand(ctl, "releasehand-controller", HANDED)
    try:
        asked = f"curl -sS -f -m 5 -H 'Authorization: Bearer {SECRET}' {API}/v1/agent"
        wait_for(lambda: ctl.run(asked, check=False).code == 0, 60, "the caller of a credential is known")
        assert ctl.run(f"runuser -u releasehand -- cat {CREDENTIALS}/token-ci", check=False).code == 1
        folder = "/run/credentials/releasehand-controller.service"
        by_hand = f"runuser -u releasehand -- env CREDENTIALS_DIRECTORY={folder} {CHECK}"
        assert "warning" not in ctl.run(by_hand).output
    finally:
        hand(ctl, "releasehand-controller", "")
        ctl.run(f"rm -r {CREDENTIALS}")
    assert ctl.run(asked, check=False).code != 0
    wait_for(lambda: all(map(world.sees, world.hosts)), 60, "all agents are back")


def test_a_credential_that_is_no_key_is_told_and_nothing_starts(world: World) -> None:
    [host, *_] = world.hosts
    web = host.run("systemctl show -P MainPID web").output
    host.put("/run/misspelt", "x")
    try:
        wrong = "[Service]\nLoadCredential=config.instanze:/run/misspelt\n"
        with pytest.raises(LabError, match="releasehand-agent"):
            hand(host, "releasehand-agent", wrong)
        told = host.run("journalctl -u releasehand-agent -n 20 -o cat").output
        assert "instanze (from credential config.instanze): unknown key" in told
    finally:
        hand(host, "releasehand-agent", "")
    wait_for(lambda: world.sees(host), 60, "it is online again")
    assert host.run("systemctl show -P MainPID web").output == web


def test_lines_of_json_keep_their_fields_and_priority_in_the_journal(world: World) -> None:
    [_, host, *_] = world.hosts
    hand(host, "releasehand-agent", "[Service]\nEnvironment=RELEASEHAND_AGENT__LOG_FORMAT=json\n")
    try:
        wait_for(lambda: world.sees(host), 60, "it is online")
        world.publish("told-in-json")
        deploy_id = world.deploy("told-in-json", [host])
        assert world.end_of(deploy_id)["status"] == "completed"
        host.run("journalctl --sync")
        asked = f"journalctl -u releasehand-agent -o json RELEASEHAND_DEPLOY_ID={deploy_id}"
        entries = [json.loads(line) for line in host.run(asked).output.splitlines()]
    finally:
        hand(host, "releasehand-agent", "")
    wait_for(lambda: world.sees(host), 60, "it is online again")
    lines = [json.loads(entry["MESSAGE"]) for entry in entries]
    assert {line["deploy_id"] for line in lines} == {deploy_id}
    events = [line["event"] for line in lines]
    assert events.count("phase started") == events.count("phase ended") >= 6
    for entry, line in zip(entries, lines, strict=True):
        assert (entry["PRIORITY"], line["level"]) == ("6", "info")
        assert entry.get("RELEASEHAND_PHASE") == line.get("phase")
