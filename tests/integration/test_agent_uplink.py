"""How the agent keeps its link: over real sockets, by a clock that the tests move."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from agent.core.instant import Instant
from agent.core.record import begin
from agent.identity import Expected, read_membership
from agent.journal import Change
from agent.link import REPORTS_IN_FLIGHT
from agent.pulse import Pulse
from agent.uplink import MAX_WINDOW_S, MIN_WINDOW_S, HostFacts, Uplink
from releasehand.model.status import Phase
from shared.frames import Heartbeat, Refuse
from shared.session import OFFLINE_AFTER_S, SUSPECT_AFTER_S
from tests.fakes.clock import START
from tests.fakes.host import Host, deploy
from tests.fakes.hub import FakeHub, run_hub


class Said(logging.Handler):
    """The reasons that the uplink gave for having no link."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reasons: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.reasons.append(str(getattr(record, "fields", {}).get("reason", "")))


class Linked:
    """An agent with its uplink to a hub."""

    def __init__(self, host: Host, hub: FakeHub, said: Said) -> None:
        self.host, self.hub, self.said = host, hub, said

    @property
    def reasons(self) -> list[str]:
        return self.said.reasons

    async def pass_time(self, seconds: float) -> None:
        """Let `seconds` pass at once, when everybody has had the time to fall asleep."""
        await self.settle()
        self.host.clock.advance(seconds)
        await self.settle()

    async def pass_time_until(self, step_s: float, found: Callable[[], bool]) -> None:
        """Let time pass in steps until what must come is there."""
        while not found():
            await self.pass_time(step_s)

    async def settle(self) -> None:
        """Give the sockets of this machine a moment: a bounded wait for something that never comes."""
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), 0.02)


@asynccontextmanager
async def link_up(directory: Path, hub: FakeHub, *, jitter: float = 0.0) -> AsyncIterator[Linked]:
    host, said = Host(directory), Said()
    hub.take_in(directory)
    logger = logging.getLogger("agent.uplink")
    logger.addHandler(said)
    try:
        async with host.boot():
            uplink = Uplink(
                partial(read_membership, directory, Expected()),
                HostFacts("0", "host", "boot-1", {}),
                executor=host.executor,
                journal=host.journal,
                pulse=Pulse(
                    host.executor, disk=directory, position=lambda: host.journal.last_n, clock=host.clock
                ),
                clock=host.clock,
                news=host.news,
                jitter=lambda: jitter,
            )
            async with asyncio.TaskGroup() as group:
                work = group.create_task(uplink.run())
                await hub.wait_for_link(1)
                yield Linked(host, hub, said)
                work.cancel()
    finally:
        logger.removeHandler(said)


@pytest.fixture
async def hub() -> AsyncIterator[FakeHub]:
    async with run_hub() as hub:
        yield hub


async def test_the_agent_beats_in_the_rhythm_that_the_controller_set(hub: FakeHub, tmp_path: Path) -> None:
    hub.heartbeat_s = 10
    async with link_up(tmp_path, hub) as linked:  # a jitter of 0 makes an interval of 8 s
        await linked.pass_time(7.9)
        assert hub.heartbeats == 0
        await linked.pass_time(0.1)
        await linked.pass_time_until(0, lambda: hub.heartbeats == 1)
        await linked.pass_time(8)
        await linked.pass_time_until(0, lambda: hub.heartbeats == 2)


async def test_a_silent_controller_is_left_and_found_again(hub: FakeHub, tmp_path: Path) -> None:
    async with link_up(tmp_path, hub) as linked:
        await linked.pass_time(SUSPECT_AFTER_S)
        assert len(hub.hellos) == 1
        await linked.pass_time(OFFLINE_AFTER_S - SUSPECT_AFTER_S)
        await linked.pass_time_until(0, lambda: len(hub.hellos) == 2)
        assert linked.reasons == ["nothing was heard of the controller for 45 s"]


async def test_a_controller_that_beats_is_kept(hub: FakeHub, tmp_path: Path) -> None:
    async with link_up(tmp_path, hub) as linked:
        for _ in range(4):
            await hub.send(Heartbeat())
            await linked.settle()
            await linked.pass_time(SUSPECT_AFTER_S)
        assert len(hub.hellos) == 1
        assert linked.reasons == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "cannot understand the peer"),
        ('{"type": "surprise", "v": 1}', "cannot understand the peer"),
        ('{"type": "heartbeat", "v": 99}', "cannot understand the peer"),
        (
            Refuse(code="replaced", reason="a newer\x1b[31m session of this agent").model_dump_json(),
            "the controller refused this agent: a newer\\x1b[31m session of this agent (replaced)",
        ),
    ],
)
async def test_what_cannot_be_worked_with_ends_the_link_and_not_the_agent(
    hub: FakeHub, tmp_path: Path, text: str, reason: str
) -> None:
    async with link_up(tmp_path, hub) as linked:
        await hub.send_raw(text)
        await hub.wait_for_link(2)
        assert linked.reasons[0].startswith(reason)


@pytest.mark.parametrize(("window_s", "delay_s"), [(40, 20), (0, MIN_WINDOW_S / 2), (1e9, MAX_WINDOW_S / 2)])
async def test_reconnecting_waits_within_the_window_that_the_controller_gave_and_within_reason(
    hub: FakeHub, tmp_path: Path, window_s: float, delay_s: float
) -> None:
    hub.reconnect_window_s = window_s
    async with link_up(tmp_path, hub, jitter=0.5) as linked:
        await hub.cut()
        while not linked.host.clock.sleeps_for(delay_s):
            await linked.settle()
        assert len(hub.hellos) == 1
        await linked.pass_time(delay_s)
        await linked.pass_time_until(0, lambda: len(hub.hellos) == 2)


async def test_the_same_reason_is_told_once(hub: FakeHub, tmp_path: Path) -> None:
    hub.reconnect_window_s = MIN_WINDOW_S
    async with link_up(tmp_path, hub, jitter=0.5) as linked:
        hub.is_full = True
        await hub.cut()
        await linked.pass_time_until(2, lambda: len(hub.user_agents) >= 4)
        [reason] = linked.reasons[1:]
        assert reason.endswith("answered HTTP 503: no room")
        hub.is_full = False
        await linked.pass_time_until(2, lambda: len(hub.hellos) == 2)


async def test_progress_comes_at_most_once_a_second(hub: FakeHub, tmp_path: Path) -> None:
    async with link_up(tmp_path, hub) as linked:
        host = linked.host
        host.fetcher.gate.clear()
        command = deploy("v1", 1)
        await hub.send(command)
        await host.fetcher.entered.wait()
        await linked.settle()
        assert hub.progress == []  # it was looked at before the download began
        await linked.pass_time_until(1, lambda: len(hub.progress) == 1)
        await linked.pass_time(1)
        await linked.pass_time(1)
        assert len(hub.progress) == 1  # nothing changed, so nothing is said
        assert hub.progress[0].ref == command.ref
        assert 0 < hub.progress[0].bytes_done < hub.progress[0].bytes_total
        host.fetcher.gate.set()
        assert (await hub.wait_for_end(command.ref)).entered is Phase.DONE


async def test_a_long_outbox_is_sent_in_bounded_pieces_and_in_order(tmp_path: Path) -> None:
    total = 2 * REPORTS_IN_FLIGHT + 10
    now = Instant(boot_id="boot-1", boot_s=0.0, wall=START)
    host = Host(tmp_path)
    async with host.boot():
        records = [begin(deploy("v1", number), now) for number in range(1, total + 1)]
        await host.journal.commit(*(Change(record) for record in records))
        await host.journal._run(lambda: host.journal._tables.execute("DELETE FROM attempt"))
    async with run_hub() as hub:
        hub.acknowledges = False
        async with link_up(tmp_path, hub) as linked:
            await linked.pass_time_until(1, lambda: len(hub.moves) >= REPORTS_IN_FLIGHT)
            await linked.pass_time(1)
            assert len(hub.moves) == REPORTS_IN_FLIGHT
            hub.moves.clear()
            hub.acknowledges = True
            await hub.cut()
            await hub.wait_for_link(2)
            await linked.pass_time_until(0.25, lambda: len(hub.moves) >= total)
            assert [move.n for move in hub.moves] == list(range(1, total + 1))
            while await linked.host.moves():
                await linked.settle()
