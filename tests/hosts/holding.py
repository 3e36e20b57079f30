"""Deployments that stand in a phase for as long as a test wants, so that nothing has to be hit in its flight.

What holds them is outside of the agent: an origin that does not go on, a service that does not come up, a
process that was stopped. Whatever holds on a host is gone after a power cut there."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from .agreement import agree, has_logged, live_version
from .host import Host, wait_for
from .web import RUN, SICK
from .world import World

HELD: Final = ("downloading", "verifying", "unpacking", "staged", "activating", "checking", "reverting")
"""The phases in which `held` stops a deployment."""
_PACKAGE_BYTES: Final = 8_000_000
_BEGINS_S: Final = 120.0
_CHILD: Final = """
for pid in $(cat /sys/fs/cgroup/system.slice/releasehand-agent.service/cgroup.procs); do
    if grep -qa agent.unpack.child /proc/$pid/cmdline; then kill -STOP $pid; found=yes; fi
done
[ "${found:-}" = yes ]
"""
_FREE_CHILD: Final = _CHILD.replace("-STOP", "-CONT")


@dataclass(frozen=True)
class Work:
    """A deployment under way, and how it ends when nobody touches it."""

    world: World
    hosts: Sequence[Host]
    deploy_id: str
    live: dict[str, str]
    """The version that each host has after it, by the host's name."""
    status: str

    def ends_well(self, *, within_s: float = 180.0) -> dict[str, Any]:
        """Wait until it has ended as it must; all accounts agree then."""
        end = self.world.end_of(self.deploy_id, within_s=within_s)
        assert end["status"] == self.status, end
        for host in self.hosts:
            agree(self.world, host, self.live[host.name])
        return end

    def await_end_on(self, host: Host, *, within_s: float = 120.0) -> None:
        """Until the host itself tells that it is done."""
        wait_for(
            lambda: has_logged(host, self.deploy_id, "entered=done", "checking"),
            within_s,
            f"{host.name} is done",
        )


@contextmanager
def held(world: World, hosts: Sequence[Host], phase: str, version: str) -> Iterator[Work]:
    """Deploy `version`; inside, it stands in `phase` on each of `hosts`. It goes on afterwards.

    For `reverting` it is a version that does not come up, and the one before takes its time."""
    before = {host.name: live_version(host) for host in hosts}
    sick = phase == "reverting"
    after = before if sick else {host.name: version for host in hosts}
    world.publish(version, run=SICK if sick else RUN, ballast_bytes=_PACKAGE_BYTES)
    with ExitStack() as stack:
        for host, file in _files_that_hold(world, hosts, phase, version, before):
            stack.enter_context(_file(host, file))
        for host in hosts if phase == "staged" else []:
            stack.enter_context(_stopped_systemd(host))  # it is asked for the process that runs
        deploy_id = world.deploy(version, list(hosts))
        if phase == "unpacking":  # its child was started when half of the package was there
            for host in hosts:
                stack.enter_context(_stopped_child(host))
            world.ctl.run(f"rm /run/hold/{version}.tar")
        for host in hosts:
            _await_phase(host, deploy_id, phase)
        yield Work(world, hosts, deploy_id, after, "failed" if sick else "completed")


def _files_that_hold(
    world: World, hosts: Sequence[Host], phase: str, version: str, before: dict[str, str]
) -> list[tuple[Host, str]]:
    match phase:
        case "downloading" | "unpacking":
            return [(world.ctl, f"{version}.tar")]
        case "verifying":
            return [(world.ctl, f"{version}.tar.sha256")]
        case "activating":
            return [(host, f"start-{version}") for host in hosts]
        case "checking":
            return [(host, f"answer-{version}") for host in hosts]
        case "reverting":
            return [(host, f"start-{before[host.name]}") for host in hosts]
        case _:
            return []


def _await_phase(host: Host, deploy_id: str, phase: str) -> None:
    wait_for(
        lambda: has_logged(host, deploy_id, "phase started", phase),
        _BEGINS_S,
        f"{deploy_id} is {phase} on {host.name}",
    )


@contextmanager
def _file(host: Host, name: str) -> Iterator[None]:
    host.run(f"mkdir -p /run/hold && : >/run/hold/{name}")
    try:
        yield
    finally:
        host.run(f"rm -f /run/hold/{name}", check=False)


@contextmanager
def _stopped_systemd(host: Host) -> Iterator[None]:
    host.signal("STOP")
    try:
        yield
    finally:
        host.signal("CONT")


@contextmanager
def _stopped_child(host: Host) -> Iterator[None]:
    wait_for(lambda: host.run(_CHILD, check=False).code == 0, _BEGINS_S, f"{host.name} is about to unpack")
    try:
        yield
    finally:
        host.run(_FREE_CHILD, check=False)
