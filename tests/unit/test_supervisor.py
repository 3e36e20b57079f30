"""What systemd is told: readiness, life, the end."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.supervisor import Supervisor
from tests.fakes.clock import FakeClock


class Listener:
    """A socket where systemd's would be."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.setblocking(False)

    def heard(self) -> list[str]:
        lines = []
        while True:
            try:
                lines.append(self._socket.recv(4_096).decode())
            except BlockingIOError:
                return lines

    def close(self) -> None:
        self._socket.close()


async def pass_time(clock: FakeClock, *steps_s: float) -> None:
    """Each step begins when somebody sleeps."""
    for step_s in steps_s:
        await asyncio.wait_for(clock.slept.wait(), 5)
        clock.slept.clear()
        clock.advance(step_s)
    await asyncio.wait_for(clock.slept.wait(), 5)


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[Listener]:
    made = Listener(tmp_path / "notify")
    yield made
    made.close()


def test_it_is_told_of_readiness_what_is_done_and_the_end(systemd: Listener) -> None:
    environment = {"NOTIFY_SOCKET": systemd.path, "HOME": "/root"}
    supervisor = Supervisor.from_environment(environment)
    supervisor.ready()
    supervisor.show("connected\nREADY=0")
    supervisor.stopping()
    assert systemd.heard() == ["READY=1", "STATUS=connected READY=0", "STOPPING=1"]
    assert environment == {"HOME": "/root"}, "children must not speak in our name"


async def test_the_watchdog_is_fed_by_the_loop_twice_as_often_as_it_wants(systemd: Listener) -> None:
    clock = FakeClock()
    span = {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "6000000", "WATCHDOG_PID": str(os.getpid())}
    supervisor = Supervisor.from_environment(span)
    supervisor.ready()
    systemd.heard()
    task = asyncio.create_task(supervisor.run(clock))
    await pass_time(clock, 3.0, 3.0, 3.0)
    task.cancel()
    assert systemd.heard() == ["WATCHDOG=1"] * 4  # at 0, 3, 6 and 9 s


async def test_until_it_is_ready_it_asks_for_patience_and_is_not_watched(systemd: Listener) -> None:
    clock = FakeClock()
    supervisor = Supervisor(systemd.path, watchdog_s=30)
    task = asyncio.create_task(supervisor.run(clock))
    await pass_time(clock, 5.0, 5.0)
    assert systemd.heard() == ["EXTEND_TIMEOUT_USEC=30000000"] * 3
    supervisor.ready()
    await pass_time(clock, 5.0)
    task.cancel()
    assert systemd.heard() == ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]


def test_without_a_supervisor_or_with_a_dead_one_nothing_happens(tmp_path: Path) -> None:
    for supervisor in (Supervisor(), Supervisor(str(tmp_path / "nobody"))):
        supervisor.ready()
        supervisor.stopping()


def test_another_process_s_watchdog_is_not_ours(systemd: Listener) -> None:
    supervisor = Supervisor.from_environment(
        {"NOTIFY_SOCKET": systemd.path, "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "1"}
    )
    supervisor.ready()
    assert systemd.heard() == ["READY=1"]
