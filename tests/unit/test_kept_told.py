"""The controller learns which releases a host keeps: by hello and ends, and by heartbeats what came after."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from shared.frames import Kept
from tests.fakes.host import INSTANCE, Host, deploy, package_of, ref_of, url_of

pytestmark = pytest.mark.slow


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    host.section = {"keep_releases": 2}
    for number in range(1, 9):
        host.fetcher.packages[url_of(f"v{number}")] = package_of(f"v{number}")
    async with host.boot() as host:
        yield host


async def work_to_rest(host: Host, *versions: int) -> None:
    """Deploy each, and wait until what follows the report is done too."""
    for number in versions:
        idle = asyncio.Event()
        host.checkpoint = lambda name, idle=idle: idle.set() if name == "idle" else None  # type: ignore[misc]
        await host.carry_out(deploy(f"v{number}", number))
        await idle.wait()


def versions(kept: list[Kept] | None) -> set[str] | None:
    return None if kept is None else {one.version for one in kept}


async def told_by_heartbeat(host: Host) -> set[str] | None:
    [pulse] = await host.executor.pulses()
    return versions(pulse.releases)


async def told_by_hello(host: Host) -> set[str] | None:
    [state] = await host.executor.states()
    return versions(state.releases)


async def test_what_an_end_said_is_not_said_again(host: Host) -> None:
    await work_to_rest(host, 1, 2)
    assert await told_by_heartbeat(host) is None


async def test_a_removal_after_the_end_is_told_by_heartbeats(host: Host) -> None:
    await work_to_rest(host, 1, 2, 3)
    end = (await host.wait_for_end(ref_of(3))).end
    assert end is not None
    assert versions(end.releases) == {"v1", "v2", "v3"}
    assert await told_by_heartbeat(host) == {"v2", "v3"}
    assert await told_by_heartbeat(host) == {"v2", "v3"}  # one heartbeat may not be recorded
    await host.journal.acknowledge(host.journal.last_n)
    assert await told_by_hello(host) == {"v2", "v3"}
    assert await told_by_heartbeat(host) is None


async def test_a_pin_by_hand_is_told_by_heartbeats(host: Host) -> None:
    await work_to_rest(host, 1)
    release = host.current
    await host.journal.with_shelf(
        INSTANCE, lambda shelf: shelf.pin(release, version="v1", sha256="", pinned=True)
    )
    [pulse] = await host.executor.pulses()
    assert pulse.releases is not None
    assert [(one.release, one.pinned) for one in pulse.releases] == [(release, True)]


async def test_heartbeats_tell_it_after_a_hello_that_old_reports_come_behind(host: Host) -> None:
    """What these said when they were written would count for the truth until the next hello."""
    await work_to_rest(host, 1, 2, 3)
    assert await told_by_hello(host) == {"v2", "v3"}
    assert await told_by_heartbeat(host) == {"v2", "v3"}


async def test_heartbeats_tell_it_after_an_old_report_was_repeated(host: Host) -> None:
    await work_to_rest(host, 1, 2)
    await host.journal.acknowledge(host.journal.last_n)
    await host.executor.execute(deploy("v1", 1))
    assert await told_by_heartbeat(host) == {"v1", "v2"}


async def test_releases_that_cannot_be_read_are_not_told_as_none(host: Host) -> None:
    await work_to_rest(host, 1)
    releases = host.root / "releases"
    releases.rename(host.root / "away")
    releases.write_text("no directory")
    assert await told_by_heartbeat(host) is None
