"""Hooks as units of a real systemd, and what hooks and services print, read through the API."""

import json
from collections.abc import Callable, Iterator

import pytest

from .host import Host, wait_for
from .world import AGENT, World

pytestmark = pytest.mark.timeout(900)  # installing counts for the first test

CONFIG = "/etc/releasehand/agent.toml"
UNIT = "releasehand-hook-web-h1.service"
# Hangs the first time that it runs, and says when two are at work at once.
ALONE = """exec 9>/run/hook.lock
flock -n 9 || echo two at once >>/root/hook.log
echo began >>/root/hook.log
test "$(grep -c began /root/hook.log)" -gt 1 || sleep 86399
echo ended >>/root/hook.log
"""
# What systemd would read as something else. It is JSON, and TOML as well.
WORDS = r"""["-n", "%h", "%n", "$HOME", "${RELEASEHAND_VERSION}", "$$", "-", "a b", "\\x41", "'\"", ";"]"""
DESPAIR = "#!/bin/sh\necho nothing for me in $0\nexit 1\n"


@pytest.fixture(scope="module")
def host(world: World) -> Iterator[Host]:
    """One whose hooks tests choose; after the last of them it has none."""
    [host, *_] = world.hosts
    before = host.run(f"cat {CONFIG}").output
    yield host
    host.put(CONFIG, before)
    restart_agent(world, host)


def restart_agent(world: World, host: Host) -> None:
    host.run("systemctl restart releasehand-agent")
    wait_for(lambda: world.sees(host), 30, f"{host.name} is online")


def give_hooks(world: World, host: Host, kind: str, script: str, *, timeout_s: int = 30) -> None:
    host.put("/usr/local/sbin/the-hook", f"#!/bin/sh\n{script}", mode=0o755)
    hook = f'[[instance.{kind}]]\ncommand = ["the-hook", {WORDS[1:]}\ntimeout_s = {timeout_s}\n'
    host.put(CONFIG, AGENT.replace("HOST", host.name) + hook)
    restart_agent(world, host)


def log_of(world: World, deploy_id: str) -> str:
    """What the API has of the host's own words."""
    events = world.call("GET", f"/v1/deployment/{deploy_id}/events?limit=1000")["data"]["events"]
    return "\n".join(one["log_tail"] for one in events if one["kind"] == "log_tail")


def is_unit_gone(host: Host) -> bool:
    return host.run(f"systemctl show -P LoadState {UNIT}").output.strip() == "not-found"


def test_a_hook_has_the_host_for_itself_and_its_words_are_in_the_log(world: World, host: Host) -> None:
    script = """set -e
echo "$RELEASEHAND_VERSION" >/etc/hooked
echo kept >/home/hooked
systemctl is-active web || test "$RELEASEHAND_ACTION" = activate
systemctl daemon-reload
mount -t tmpfs hooked /mnt
umount /mnt
printf 'the hook was told:'
printf ' <%s>' "$@"
echo
env | grep -c . || true
"""
    give_hooks(world, host, "pre_hook", script)
    world.publish("hooked")
    deploy_id = world.deploy("hooked", [host])
    assert world.end_of(deploy_id)["status"] == "completed", log_of(world, deploy_id)
    assert host.run("cat /etc/hooked /home/hooked; rm /etc/hooked /home/hooked").output == "hooked\nkept\n"
    told = log_of(world, deploy_id)
    assert "pre-hook 1 (the-hook), activate hooked: ended with 0" in told
    assert "the hook was told: " + " ".join(f"<{word}>" for word in json.loads(WORDS)) in told
    assert "the service's output since the activation began (the journal of web.service) is:" in told
    assert "Started web.service" in told
    assert is_unit_gone(host)


def test_a_hook_that_fails_or_is_killed_is_told_and_leaves_no_failed_unit(world: World, host: Host) -> None:
    for script, how in (("exit 7", "it ended with 7"), ("kill -TERM $$", "it was ended by signal 15")):
        give_hooks(world, host, "pre_hook", f"echo about to fail\n{script}")
        world.publish("unhooked")
        deploy_id = world.deploy("unhooked", [host])
        [instance] = world.end_of(deploy_id)["instances"]
        assert instance["error_code"] == "hook_failed", instance
        assert f"{how}; last output: about to fail" in instance["error_message"], instance
        assert is_unit_gone(host)
        assert host.run("systemctl is-failed releasehand-hook-*", check=False).output.strip() in {
            "",
            "inactive",
        }


def test_a_hook_that_hangs_is_ended_with_all_that_it_started(world: World, host: Host) -> None:
    script = "trap '' TERM\nsetsid sleep 86399 &\necho hanging\nsleep 86399\n"
    give_hooks(world, host, "pre_hook", script, timeout_s=1)
    world.publish("hung")
    [instance] = world.end_of(world.deploy("hung", [host]))["instances"]
    assert "it did not end within 1 s; last output: hanging" in instance["error_message"], instance
    assert host.run("pgrep -f 'sleep 86399'", check=False).output == ""
    assert is_unit_gone(host)


def kill_agent(host: Host) -> None:
    host.run("kill -9 $(systemctl show -P MainPID releasehand-agent)")


def restart_agent_alone(host: Host) -> None:
    host.run("systemctl restart releasehand-agent")


def restart_host(host: Host) -> None:
    """As its owner does it: systemd stops what runs."""
    host.run("systemctl poweroff", check=False)
    assert host.runner is not None, "it was booted"
    host.runner.wait(30)
    host.boot()


@pytest.mark.parametrize(
    ("kind", "end"),
    [
        ("pre_hook", kill_agent),
        ("pre_hook", restart_agent_alone),
        ("pre_hook", restart_host),
        ("post_hook", kill_agent),
        ("post_hook", restart_agent_alone),
    ],
)
def test_an_agent_that_ends_in_a_hook_has_it_run_again_and_never_two(
    world: World, host: Host, kind: str, end: Callable[[Host], None]
) -> None:
    give_hooks(world, host, kind, ALONE)
    host.run("rm -f /root/hook.log")
    version = f"alone-{kind}-{end.__name__}"
    world.publish(version)
    deploy_id = world.deploy(version, [host])
    wait_for(lambda: host.run("cat /root/hook.log", check=False).output == "began\n", 30, "the hook runs")
    end(host)
    assert world.end_of(deploy_id)["status"] == "completed", log_of(world, deploy_id)
    assert host.run("cat /root/hook.log").output == "began\nbegan\nended\n"
    assert is_unit_gone(host)


def test_what_a_crashing_service_said_is_in_the_log(world: World, host: Host) -> None:
    world.publish("despair", run=DESPAIR)
    deploy_id = world.deploy("despair", [host])
    assert world.end_of(deploy_id)["status"] == "failed"
    told = log_of(world, deploy_id)
    assert "nothing for me in /srv/web/current/run" in told
    assert "web.service: Failed with result 'exit-code'" in told
    assert told.count("Started web.service") >= 2, "of the release that failed and of the one before"
