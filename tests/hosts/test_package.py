"""The Debian package's life: upgrades of both daemons, removal, installing again, purging."""

import pytest

from .agreement import agree, live_version, pid_of
from .holding import held
from .host import Host, wait_for
from .world import World

pytestmark = pytest.mark.timeout(900)  # booting and installing counts for the first test

AGENT = "releasehand-agent"
# The same files under a higher version, as the next release would be; packed quickly, for nobody keeps it.
NEWER = """
dpkg-deb -R /root/releasehand.deb /root/newer && rm /root/releasehand.deb
sed -i 's/^Version: .*/&.newer/' /root/newer/DEBIAN/control
dpkg-deb --root-owner-group -Znone --build /root/newer /root/newer.deb && rm -r /root/newer
dpkg -i /root/newer.deb && rm /root/newer.deb
"""


def install_newer(world: World, host: Host) -> None:
    host.put("/root/releasehand.deb", world.package)
    host.run(f"set -e; {NEWER}", timeout_s=300)


def install_again(world: World, host: Host) -> None:
    """The version of the others, whatever is there now."""
    world.install(host)
    assert not installed_version(host).endswith(".newer")


def installed_version(host: Host) -> str:
    return host.run("dpkg-query -W -f '${Version}' releasehand-daemons").output


def test_an_upgrade_restarts_the_agent_alone_and_so_does_the_way_back(world: World) -> None:
    [host, *_] = world.hosts
    web, agent, version = pid_of(host, "web"), pid_of(host, AGENT), live_version(host)
    install_newer(world, host)
    assert installed_version(host).endswith(".newer")
    newer = pid_of(host, AGENT)
    assert newer not in {"0", agent}
    agree(world, host, version)
    install_again(world, host)
    assert pid_of(host, AGENT) not in {"0", newer}
    assert host.run(f"systemctl is-enabled {AGENT}").output.strip() == "enabled"
    agree(world, host, version)
    assert pid_of(host, "web") == web


def test_an_upgrade_in_the_middle_of_an_activation_ends_it(world: World) -> None:
    [_, host, _] = world.hosts
    with held(world, [host], "activating", "upgraded") as work:
        world.install(host)
    work.ends_well()


def test_an_upgrade_of_the_controller_loses_no_deployment_and_no_agent(world: World) -> None:
    before = pid_of(world.ctl, "releasehand-controller")
    with held(world, world.hosts, "checking", "controller-upgraded") as work:
        install_newer(world, world.ctl)
        assert pid_of(world.ctl, "releasehand-controller") not in {"0", before}
        wait_for(lambda: all(map(world.sees, world.hosts)), 60, "all agents are back")
    work.ends_well()
    install_again(world, world.ctl)
    for host in world.hosts:
        agree(world, host, "controller-upgraded")


def test_a_controller_that_goes_back_to_a_copy_of_its_rows_learns_the_rest_from_the_agents(
    world: World,
) -> None:
    ctl, state, copy = world.ctl, "/var/lib/releasehand-controller", "/var/backups/releasehand-controller"
    stop, start = "systemctl stop releasehand-controller", "systemctl start releasehand-controller"
    ctl.run(f"{stop} && cp -a {state} {copy} && {start}")
    world.publish("not-in-the-copy")
    end = world.end_of(world.deploy("not-in-the-copy", world.hosts))
    assert end["status"] == "completed", end
    ctl.run(f"{stop} && rm -r {state} && mv {copy} {state} && {start}")
    for host in world.hosts:
        agree(world, host, "not-in-the-copy")
    world.publish("after-the-copy")
    end = world.end_of(world.deploy("after-the-copy", world.hosts))
    assert end["status"] == "completed", end
    for host in world.hosts:
        agree(world, host, "after-the-copy")


def test_removal_stops_the_agent_and_leaves_services_and_state_for_the_next_installation(
    world: World,
) -> None:
    [*_, host] = world.hosts
    web, version = pid_of(host, "web"), live_version(host)
    identity = "sha256sum /var/lib/releasehand-agent/identity/*"
    kept = host.run(identity).output
    host.run("dpkg --remove releasehand-daemons")
    assert host.run(f"systemctl is-active {AGENT}", check=False).output.strip() == "inactive"
    assert not host.run("find /etc/systemd/system -name '*releasehand*'").output
    host.run("test ! -e /opt/releasehand")
    assert not host.run("grep -lsa '[/]opt/releasehand' /proc/[0-9]*/cmdline", check=False).output
    assert (pid_of(host, "web"), live_version(host)) == (web, version)
    assert host.run(identity).output == kept
    host.run("test -f /etc/releasehand/agent.toml")

    world.install(host)
    assert pid_of(host, AGENT) == "0", "nothing starts by itself"
    host.run(f"systemctl enable --now {AGENT}")
    agree(world, host, version)
    assert host.run(identity).output == kept
    assert pid_of(host, "web") == web


def test_purging_leaves_nothing_but_what_was_deployed(world: World) -> None:
    [*_, host] = world.hosts
    web, version = pid_of(host, "web"), live_version(host)
    host.run("dpkg --purge releasehand-daemons")
    assert not host.find_own("*releasehand*")
    assert (pid_of(host, "web"), live_version(host)) == (web, version)

    world.install(host)
    world.join(host)
    agree(world, host, version)
    assert pid_of(host, "web") == web
