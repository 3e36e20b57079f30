"""What an end says about an instance that was broken before, and what a start does with what was replaced."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.core.instant import Instant
from agent.core.record import begin
from agent.errors import DownloadFailedError
from agent.instance_config import HookSection
from agent.journal import Change, Journal
from releasehand.model.status import Phase
from shared.attempt import Outcome
from tests.fakes.clock import START
from tests.fakes.host import Host, deploy, ref_of, rollback, url_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[Host]:
    """A host whose instance is broken; its pre-hook fails where a file says so."""
    host = Host(tmp_path)
    guard = ("/bin/sh", "-c", f"! test -e {tmp_path}/hook-fails")
    host.section = {"pre_hook": (HookSection(command=guard),)}
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        host.check.sick = lambda _: True
        end = await host.carry_out(deploy("v2", 2))
        assert end.entered is Phase.BROKEN
        assert end.end is not None
        assert end.end.broken
        host.check.sick = lambda _: False
        yield host


async def test_an_attempt_that_changes_nothing_leaves_a_broken_instance_broken(broken: Host) -> None:
    broken.fetcher.packages[url_of("v3")] = DownloadFailedError("https://packages.example.com/v3", "cut")
    end = await broken.carry_out(deploy("v3", 3))
    assert end.entered is Phase.FAILED
    assert end.end is not None
    assert end.end.broken


async def test_a_revert_that_had_nothing_to_take_back_mends_nothing(broken: Host) -> None:
    (broken.directory / "hook-fails").touch()
    end = await broken.carry_out(deploy("v3", 3))
    assert end.entered is Phase.REVERTED
    assert end.end is not None
    assert end.end.broken
    [state] = await broken.executor.states()
    assert state.broken


async def test_a_release_that_came_up_mends_a_broken_instance(broken: Host) -> None:
    end = await broken.carry_out(rollback("v1", 3))
    assert end.entered is Phase.DONE
    assert end.end is not None
    assert not end.end.broken


async def test_what_was_replaced_before_a_kill_is_not_gone_on_with_after_it(tmp_path: Path) -> None:
    host = Host(tmp_path)
    journal = await Journal.open(tmp_path / "agent.db")
    now = Instant(boot_id="boot-1", boot_s=host.clock.monotonic(), wall=START)
    older, newer = begin(deploy("v1", 1), now), begin(deploy("v2", 2), now)
    await journal.commit(Change(older), Change(older.moved(Outcome.OK, now)), Change(newer))
    await journal.close()
    async with host.boot():
        first, second = [await host.wait_for_end(ref_of(generation)) for generation in (1, 2)]
    assert [first.entered, second.entered] == [Phase.CANCELLED, Phase.DONE]
    assert host.live_version == "v2"
    assert len(host.service.restarts) == 1


async def test_a_release_that_was_never_switched_to_is_not_to_blame(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.section = {"restart": "stop-switch-start"}
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
        await host.carry_out(deploy("v2", 2))
        host.service.stays_up = True
        end = await host.carry_out(rollback("v1", 3))
        assert end.entered is Phase.REVERTED
        assert end.end is not None
        assert {one.version: one.good for one in end.end.releases} == {"v1": True, "v2": True}
        host.service.stays_up = False
        assert (await host.carry_out(rollback("v1", 4))).entered is Phase.DONE
