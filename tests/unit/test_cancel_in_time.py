"""A cancel is answered within five seconds wherever an attempt is slow, and leaves the host as it was."""

import asyncio
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import psutil
import pytest

from agent.download import Downloader, DownloadPolicy
from agent.runner import TIDY_S
from agent.switch import InstallRoot, Staging
from releasehand.model.status import Phase
from shared.clock import SystemClock
from tests.fakes.archives import directory, file, tgz
from tests.fakes.host import Host, deploy, ref_of, url_of
from tests.fakes.origin import gated, run_origin
from tests.fakes.signing import Keys
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

WITHIN_S = 5.0
V2 = deploy("v2", 2)
Reached = Callable[[], Awaitable[None]]
Trouble = Callable[[Host], AbstractAsyncContextManager[Reached]]
"""Makes a host slow; what comes out of it waits until the attempt at v2 is held up by that."""


@asynccontextmanager
async def slow_origin(host: Host) -> AsyncIterator[Reached]:
    """It sends the beginning and then nothing more."""
    policy = {"reserve_bytes": 0, "allowed_networks": (ip_network("127.0.0.0/8"),)}
    async with run_origin(host.directory) as origin:
        downloader = Downloader(
            host.directory / "downloads",
            policy=DownloadPolicy(extra_ca_file=origin.ca_file, **policy),  # type: ignore[arg-type]
            clock=SystemClock(),
        )
        url = origin.serve("/v2.tar.gz", gated(b"x" * 100_000, asyncio.Event(), stated=10_000_000))
        host.real_fetcher, host.urls = downloader, {"v2": url}

        async def reached() -> None:
            await until(lambda: any(one.bytes_done for one in host.executor.progress()))

        try:
            yield reached
            await asyncio.wait_for(origin.gone.wait(), WITHIN_S)  # the connection is closed
        finally:
            await downloader.close()


@asynccontextmanager
async def slow_verification(host: Host) -> AsyncIterator[Reached]:
    """The signature does not come."""
    Keys(host.directory).trust("release")
    host.fetcher.sidecar_gate.clear()

    async def reached() -> None:
        await host.fetcher.sidecar_asked.wait()

    yield reached
    (host.directory / "trusted.d" / "release.pub").unlink()


@asynccontextmanager
async def huge_archive(host: Host) -> AsyncIterator[Reached]:
    """It unpacks to more files than can be written in the time that this test has."""
    folders = [directory(f"d{n}") for n in range(60)]
    files = [file(f"d{n % 60}/{n}", b"x") for n in range(60_000)]
    host.fetcher.packages[url_of("v2")] = tgz(*folders, *files)
    before = set(psutil.Process().children())  # of other tests in this process

    async def reached() -> None:
        await until(lambda: any((host.root / ".staging").glob("*/d0")))
        assert set(psutil.Process().children()) - before

    yield reached
    assert not set(psutil.Process().children()) - before


@asynccontextmanager
async def slow_disk(host: Host) -> AsyncIterator[Reached]:
    """It takes its time to make the unpacked release durable."""
    syncing, synced = threading.Event(), threading.Event()

    class SlowRoot(InstallRoot):
        def sync(self, staging: Staging) -> None:
            syncing.set()
            synced.wait()

    host.make_root = SlowRoot

    async def reached() -> None:
        await until(syncing.is_set)

    try:
        yield reached
    finally:
        synced.set()


@asynccontextmanager
async def silent_service(host: Host) -> AsyncIterator[Reached]:
    """Nobody can tell how the service does, right before it would be switched."""

    def hush(name: str) -> None:
        if name == "staged:entered":
            host.service.looked.clear()
            host.service.seen.clear()

    host.checkpoint = hush

    async def reached() -> None:
        while host.service.seen.is_set():
            await host.news.wait()
            host.news.clear()
        await host.service.looked.wait()

    yield reached
    host.service.seen.set()


@asynccontextmanager
async def busy_instance(host: Host) -> AsyncIterator[Reached]:
    """Another attempt is past its point of no return."""
    host.check.gate.clear()
    host.check.entered.clear()
    await host.executor.execute(deploy("v3", 1, attempt=2))
    await host.check.entered.wait()

    async def reached() -> None:
        """It waits from the start."""

    yield reached
    host.check.gate.set()
    assert (await host.wait_for_end(ref_of(1, 2))).entered is Phase.DONE


SLOW: dict[str, tuple[Phase, Trouble]] = {
    "an instance at work": (Phase.QUEUED, busy_instance),
    "a slow origin": (Phase.DOWNLOADING, slow_origin),
    "a slow verification": (Phase.VERIFYING, slow_verification),
    "a huge archive": (Phase.UNPACKING, huge_archive),
    "a slow disk": (Phase.UNPACKING, slow_disk),
    "a silent service": (Phase.STAGED, silent_service),
}


@pytest.mark.parametrize("name", SLOW)
async def test_a_cancel_ends_it_within_five_seconds(name: str, tmp_path: Path) -> None:
    phase, trouble = SLOW[name]
    host, clock = Host(tmp_path), SystemClock()
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
    with_v1 = before(host)
    boots_first = trouble is busy_instance
    if boots_first:
        async with host.boot(), trouble(host) as reached:
            await cancel_there(host, phase, reached, clock)
    else:
        async with trouble(host) as reached, host.boot():
            await cancel_there(host, phase, reached, clock)
            assert before(host) == with_v1
            assert host.left_over() == []


async def test_a_cancel_does_not_wait_until_a_large_tree_is_deleted(tmp_path: Path) -> None:
    unpacked, deleted = threading.Event(), threading.Event()

    class LargeRoot(InstallRoot):
        def sync(self, staging: Staging) -> None:
            unpacked.set()
            deleted.wait()

        def clear_staging(self) -> None:
            if unpacked.is_set():
                deleted.wait()
            super().clear_staging()

    host = Host(tmp_path)
    async with host.boot():
        await host.carry_out(deploy("v1", 1))
    host.make_root = LargeRoot
    async with host.boot():
        try:
            await host.executor.execute(V2)
            await until(unpacked.is_set)
            await host.executor.cancel(ref_of(2))
            await until(lambda: host.clock.sleeps_for(TIDY_S))
            host.clock.advance(TIDY_S)
            end = await host.wait_for_end(ref_of(2))
            assert end.entered is Phase.CANCELLED
            assert host.left_over() != []
        finally:
            deleted.set()
        end = await host.carry_out(deploy("v3", 3))  # not begun before all of that is gone
        assert end.entered is Phase.DONE
        await until(lambda: host.left_over() == [])


async def cancel_there(host: Host, phase: Phase, reached: Reached, clock: SystemClock) -> None:
    command = V2.model_copy(update={"url": host.urls.get("v2", V2.url)})
    await host.executor.execute(command)
    await asyncio.wait_for(reached(), 30)
    began_at = clock.monotonic()
    await host.executor.cancel(ref_of(2))
    end = await asyncio.wait_for(host.wait_for_end(ref_of(2)), WITHIN_S)
    assert clock.monotonic() - began_at < WITHIN_S
    assert (end.left, end.entered) == (phase, Phase.CANCELLED)
    assert end.end is not None
    assert end.end.active.version == ("v1" if phase is not Phase.QUEUED else "v3")


def before(host: Host) -> list[str]:
    """All that is on the host for good: what a cancelled attempt must not change."""
    kept = [str(path.relative_to(host.root)) for path in (host.root / "releases").rglob("*")]
    return sorted([*kept, host.current, *host.service.restarts])
