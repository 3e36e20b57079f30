"""Heartbeats say which reports they know of: a controller believes only those that stand where it stands."""

from pathlib import Path

from agent.pulse import Pulse
from releasehand.model.status import ServiceState
from shared.frames import InstancePulse
from tests.fakes.clock import FakeClock


class Host:
    """One instance and an outbox; `reports_meanwhile` are written while somebody looks."""

    def __init__(self) -> None:
        self.last_n, self.reports_meanwhile = 0, 0
        self.state = ServiceState.RUNNING

    async def pulses(self) -> list[InstancePulse]:
        self.last_n += self.reports_meanwhile
        return [InstancePulse(instance_id="web-1", state=self.state)]


def watch(host: Host, disk: Path) -> Pulse:
    return Pulse(host, disk=disk, position=lambda: host.last_n, clock=FakeClock())


async def test_a_heartbeat_names_the_newest_report_of_its_look(tmp_path: Path) -> None:
    host = Host()
    pulse = watch(host, tmp_path)
    host.last_n = 7
    await pulse.look()
    host.last_n = 9
    assert pulse.heartbeat().last_n == 7
    assert [one.state for one in pulse.heartbeat().instances] == [ServiceState.RUNNING]


async def test_a_look_during_which_something_was_reported_is_not_told(tmp_path: Path) -> None:
    host = Host()
    pulse = watch(host, tmp_path)
    await pulse.look()
    host.state, host.reports_meanwhile = ServiceState.STOPPED, 1
    await pulse.look()
    assert pulse.heartbeat().last_n == 0
    assert [one.state for one in pulse.heartbeat().instances] == [ServiceState.RUNNING]
    host.reports_meanwhile = 0
    await pulse.look()
    assert pulse.heartbeat().last_n == 1
    assert [one.state for one in pulse.heartbeat().instances] == [ServiceState.STOPPED]
