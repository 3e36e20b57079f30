"""Back to a kept release with the origin gone, by the real driver: within a second, and the right one."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent.check import ServiceCheck
from agent.core.retention import find_previous
from agent.journal import Shelf
from agent.retention import list_stored
from agent.service import CommandService
from releasehand.model.status import Phase, TaskResult
from shared.clock import SystemClock
from tests.fakes.host import INSTANCE, Host, deploy, package_of, rollback, url_of


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    host = Host(tmp_path)
    service = CommandService(
        host.root, start=["sleep", "600"], service="web", instance=INSTANCE, port=1, version=lambda: "any"
    )
    host.real_service = service
    host.real_check = ServiceCheck(None, clock=SystemClock(), settle_s=0.1)
    for number in range(1, 9):
        host.fetcher.packages[url_of(f"v{number}")] = package_of(f"v{number}")
    async with host.boot() as host:
        yield host
    await service.stop()


async def previous(host: Host) -> set[str]:
    """What "the one before" can mean now, as retention sees it."""

    def look(shelf: Shelf) -> set[str]:
        stored = list_stored([path.name for path in releases(host)], shelf.rows(), {})
        return {name.partition("-")[0] for name in find_previous(stored, host.current)}

    return await host.journal.with_shelf(INSTANCE, look)


def releases(host: Host) -> list[Path]:
    return [path for path in (host.root / "releases").iterdir() if not path.name.startswith(".")]


async def test_a_rollback_to_a_kept_release_takes_less_than_a_second(host: Host) -> None:
    clock, took_s = SystemClock(), []
    for number in range(1, 4):
        await host.carry_out(deploy(f"v{number}", number))
    host.fetcher.packages.clear()  # whoever asks now meets a KeyError
    for generation, version in enumerate(("v2", "v1", "v3"), start=4):
        began_at = clock.monotonic()
        end = await host.carry_out(rollback(version, generation))
        took_s.append(clock.monotonic() - began_at)
        assert end.entered is Phase.DONE
        assert end.end is not None
        assert end.end.result is TaskResult.KEPT
        assert host.live_version == version
    assert min(took_s) < 1.0  # a busy machine may lengthen one of them


async def test_the_one_before_is_told_by_what_was_done_and_not_by_file_times(host: Host) -> None:
    for number in range(1, 4):
        await host.carry_out(deploy(f"v{number}", number))
    for path in releases(host):
        age_s = 10 if path.name.startswith("v1") else 100_000
        os.utime(path, (2_000_000_000 - age_s,) * 2)
    assert await previous(host) == {"v2"}
    await host.carry_out(rollback("v2", 4))
    assert await previous(host) == {"v1", "v3"}
    await host.carry_out(rollback("v1", 5))
    assert await previous(host) == {"v2"}
    await host.carry_out(deploy("v4", 6))
    assert await previous(host) == {"v1", "v3"}
