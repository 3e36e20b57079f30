"""What comes in between: cancels, and commands that come twice, too late, or before another has ended."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.instant import Instant
from agent.core.record import begin
from agent.journal import Change
from releasehand.model.codes import FailureCode
from releasehand.model.status import Phase
from shared.attempt import CANCELLABLE, Outcome
from tests.fakes.host import INSTANCE, Host, assert_lawful, deploy, ref_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    async with Host(tmp_path).boot() as host:
        yield host


async def test_a_cancel_during_the_download_leaves_nothing(host: Host) -> None:
    host.fetcher.gate.clear()
    await host.executor.execute(deploy("v1", 1))
    await host.fetcher.entered.wait()
    await host.executor.cancel(ref_of(1))
    end = await host.wait_for_end(ref_of(1))
    assert end.entered is Phase.CANCELLED
    assert host.left_over() == []
    assert list((host.root / "releases").iterdir()) == []


@pytest.mark.parametrize("phase", sorted(CANCELLABLE))
async def test_a_cancel_in_any_phase_before_the_switch_leaves_the_host_as_it_was(
    host: Host, phase: Phase
) -> None:
    await host.carry_out(deploy("v1", 1))
    before = sorted(path.name for path in (host.root / "releases").iterdir())

    def cancel_there(name: str) -> None:
        if name == f"{phase}:left":
            host.executor._runners["web-1"].backlog.stop.set()

    host.checkpoint = cancel_there
    end = await host.carry_out(deploy("v2", 2))
    assert end.entered is Phase.CANCELLED
    assert end.left is phase
    assert host.live_version == "v1"
    assert sorted(path.name for path in (host.root / "releases").iterdir()) == before
    assert host.left_over() == []


async def test_a_cancel_after_the_switch_waits_for_the_end(host: Host) -> None:
    host.check.gate.clear()
    await host.executor.execute(deploy("v1", 1))
    await host.check.entered.wait()
    await host.executor.cancel(ref_of(1))
    host.check.gate.set()
    end = await host.wait_for_end(ref_of(1))
    assert end.entered is Phase.DONE


async def test_a_cancel_that_overtakes_its_command_keeps_it_from_running(host: Host) -> None:
    await host.executor.cancel(ref_of(1))
    end = await host.wait_for_end(ref_of(1))
    assert end.entered is Phase.CANCELLED
    await host.executor.execute(deploy("v1", 1))
    assert len(await host.moves()) == 1
    assert host.fetcher.fetched == []


async def test_a_repeated_command_runs_once(host: Host) -> None:
    await host.carry_out(deploy("v1", 1))
    count = len(await host.moves())
    await host.executor.execute(deploy("v1", 1))
    assert len(await host.moves()) == count  # its reports are still on their way
    await host.journal.acknowledge(count)
    await host.executor.execute(deploy("v1", 1))
    [again] = await host.moves()
    assert again.n == count + 1
    assert again.entered is Phase.DONE
    assert len(host.fetcher.fetched) == 1


async def test_a_command_repeated_while_a_phase_ends_leaves_the_journal_at_the_newest(host: Host) -> None:
    now = Instant(boot_id=host.boot_id, boot_s=host.clock.monotonic(), wall=host.clock.now())
    for generation in range(1, 9):  # the move comes after ever more of the steps that answering takes
        record = begin(deploy("v1", generation), now)
        await host.journal.commit(Change(record))
        await host.journal.acknowledge(host.journal.last_n)
        moved = record.moved(Outcome.OK, now)
        async with asyncio.TaskGroup() as group:
            group.create_task(host.executor.execute(deploy("v1", generation)))
            for _ in range(1, generation):
                await host.journal.broken(INSTANCE)
            await host.journal.commit(Change(moved))
        assert (await host.journal.attempts(INSTANCE))[-1].phase is moved.phase
        assert (await host.moves())[-1].entered is moved.phase


async def test_an_older_command_is_refused_as_stale(host: Host) -> None:
    await host.carry_out(deploy("v2", 5))
    await host.executor.execute(deploy("v1", 4))
    end = await host.wait_for_end(ref_of(4))
    assert (end.left, end.outcome, end.entered) == (Phase.QUEUED, Outcome.FAILED, Phase.FAILED)
    assert end.end is not None
    assert end.end.code is FailureCode.STALE_COMMAND
    assert end.end.active.version == "v2"
    assert host.live_version == "v2"


async def test_a_newer_command_replaces_one_that_only_downloads(host: Host) -> None:
    host.fetcher.gate.clear()
    await host.executor.execute(deploy("v1", 1))
    await host.fetcher.entered.wait()
    host.fetcher.gate.set()
    host.fetcher.entered.clear()
    host.fetcher.gate.clear()
    await host.executor.execute(deploy("v2", 2))
    first = await host.wait_for_end(ref_of(1))
    host.fetcher.gate.set()
    second = await host.wait_for_end(ref_of(2))
    assert first.entered is Phase.CANCELLED
    assert second.entered is Phase.DONE
    assert host.live_version == "v2"


async def test_a_newer_command_waits_behind_one_that_has_switched(host: Host) -> None:
    host.check.gate.clear()
    await host.executor.execute(deploy("v1", 1))
    await host.check.entered.wait()
    await host.executor.execute(deploy("v2", 2))
    await host.executor.execute(deploy("v3", 3))  # and replaces what only waits
    host.check.gate.set()
    ends = [await host.wait_for_end(ref_of(generation)) for generation in (1, 2, 3)]
    assert [end.entered for end in ends] == [Phase.DONE, Phase.CANCELLED, Phase.DONE]
    assert_lawful(await host.moves())
    assert host.live_version == "v3"
