"""How fast packages come and what they cost: the byte limit is held, and memory does not grow with them."""

import asyncio
import hashlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from agent.download import Downloader, DownloadPolicy
from agent.download.pace import Pace, Throttle
from agent.errors import DownloadTooSlowError
from shared.clock import SystemClock
from tests.fakes import origin as serving
from tests.fakes.clock import FakeClock
from tests.fakes.origin import Origin

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
ROOT = Path(__file__).resolve().parents[2]


class LateClock(FakeClock):
    """Time goes on only by sleeping, and each sleep lasts `late_s` longer than it should."""

    def __init__(self, late_s: float) -> None:
        super().__init__()
        self._late_s = late_s

    async def sleep(self, seconds: float) -> None:
        self.advance(seconds + self._late_s)


@pytest.mark.parametrize("limit", [10_000, MIB, 100 * MIB, 1024 * MIB])
@pytest.mark.parametrize("late_s", [0.0, 0.001, 0.03])
async def test_the_limit_is_held_within_a_tenth_however_late_sleeps_end(limit: int, late_s: float) -> None:
    clock = LateClock(late_s)
    throttle, began, taken = Throttle(limit, clock), clock.monotonic(), 0
    while clock.monotonic() - began < 20:
        taken += throttle.read_bytes
        await throttle.take(throttle.read_bytes)
    ratio = taken / (clock.monotonic() - began) / limit
    assert 0.9 <= ratio <= 1.1


async def test_without_a_limit_nothing_waits() -> None:
    clock = FakeClock()
    throttle = Throttle(0, clock)
    assert await throttle.take(2**40) == 0.0
    assert not clock.slept.is_set()
    assert throttle.read_bytes == -1


async def test_downloads_share_the_limit_and_together_hold_it(
    origin: Origin, policy: DownloadPolicy, tmp_path: Path
) -> None:
    limit, clock = 2 * MIB, SystemClock()
    downloader = Downloader(tmp_path / "packages", policy=replace(policy, limit_bytes_s=limit), clock=clock)
    urls = [origin.serve(f"/{n}", serving.content(bytes([n]) * (3 * MIB // 2))) for n in range(2)]
    began = clock.monotonic()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(downloader.fetch(url, progress=lambda _d, _t: None)) for url in urls]
    took_s = clock.monotonic() - began
    for task in tasks:
        task.result().close()
    await downloader.close()
    assert 3 * MIB / took_s / limit <= 1.1


def test_time_spent_under_the_own_limit_does_not_make_an_origin_slow() -> None:
    clock = FakeClock()
    pace = Pace(DownloadPolicy(), clock, "https://h/p")
    clock.advance(3600)
    pace.excuse(3590)
    pace.check(1)
    clock.advance(60)
    with pytest.raises(DownloadTooSlowError, match="1024 is the least"):
        pace.check(2)


def test_an_origin_is_judged_anew_in_each_window() -> None:
    clock = FakeClock()
    pace = Pace(DownloadPolicy(), clock, "https://h/p")
    clock.advance(60)
    pace.check(10 * MIB)
    clock.advance(60)
    with pytest.raises(DownloadTooSlowError):
        pace.check(10 * MIB + 1)


async def test_memory_does_not_grow_with_the_package(origin: Origin, tmp_path: Path) -> None:
    size = 512 * MIB
    url = origin.serve("/large", serving.zeros(size))
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.fetching", url, str(origin.ca_file), str(tmp_path / "packages")),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    assert process.returncode == 0
    growth_bytes, sha256 = said.decode().split()
    expected = hashlib.sha256()
    for _ in range(size // MIB):
        expected.update(bytes(MIB))
    assert sha256 == expected.hexdigest()
    assert int(growth_bytes) <= 32 * MIB
