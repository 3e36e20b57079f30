# ruff: noqa: ASYNC240 — each test has a loop to itself
"""One download for all who want a package at once, and none for who wants it later with its digest."""

import asyncio
import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from agent.download import Download, Downloader, DownloadPolicy
from agent.download.flight import Progress
from agent.errors import HostError, NoSpaceError, OriginRefusedError
from shared.clock import SystemClock
from tests.fakes import origin as serving
from tests.fakes.clock import FakeClock
from tests.fakes.origin import Origin, Ranged

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PACKAGE = hashlib.shake_128(b"package").digest(2 * MIB + 12_345)
SHA256 = hashlib.sha256(PACKAGE).hexdigest()


def ignore(_done: int, _total: int | None) -> None:
    """Progress that nobody looks at."""


def when_flowing(flowing: asyncio.Event) -> Progress:
    """Progress that says when the first bytes came."""

    def look(done: int, _total: int | None) -> None:
        if done:
            flowing.set()

    return look


def kept(packages: Path) -> set[str]:
    """The digests of the packages in the cache."""
    return {path.stem for path in packages.glob("*.package")}


def content_of(name: str, size: int = MIB) -> tuple[bytes, str]:
    data = hashlib.shake_128(name.encode()).digest(size)
    return data, hashlib.sha256(data).hexdigest()


# --------------------------------------------------------------------------------------- single flight


async def test_many_who_want_one_package_at_once_cause_one_download(
    origin: Origin, downloader: Downloader
) -> None:
    ranged = Ranged(PACKAGE, hold_at=MIB)
    url = origin.serve("/p", ranged)
    async with asyncio.TaskGroup() as group:
        flowing, seen = asyncio.Event(), list[int]()
        first = group.create_task(downloader.fetch(url, progress=when_flowing(flowing)))
        await flowing.wait()
        more = [
            group.create_task(downloader.fetch(url, progress=lambda done, _: seen.append(done))) for _ in "ab"
        ]
        ranged.gate.set()
    assert len(origin.requests) == 1
    assert seen[-1] == len(PACKAGE)
    downloads = [first.result(), *(task.result() for task in more)]
    assert downloads[0].file.read() == PACKAGE
    assert [one.file.tell() for one in downloads] == [len(PACKAGE), 0, 0], "each has a position of its own"
    for one in downloads:
        one.close()
    assert downloads[1].file.closed


async def test_a_cancelled_waiter_leaves_the_others_and_the_last_one_stops_the_download(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, hold_at=MIB)
    url = origin.serve("/p", ranged)
    flowing = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(downloader.fetch(url, progress=when_flowing(flowing))) for _ in range(3)]
        await flowing.wait()
        tasks[0].cancel()
        await asyncio.wait([tasks[0]])
        assert not origin.gone.is_set()
        tasks[1].cancel()
        await asyncio.wait([tasks[1]])
        assert not origin.gone.is_set()
        ranged.gate.set()
    assert tasks[2].result().sha256 == SHA256
    tasks[2].result().close()
    ranged.gate.clear()
    async with asyncio.TaskGroup() as group:
        flowing.clear()
        tasks = [group.create_task(downloader.fetch(url, progress=when_flowing(flowing))) for _ in range(2)]
        await flowing.wait()
        for task in tasks:
            task.cancel()
    async with asyncio.timeout(10):
        await origin.gone.wait()
    assert list(packages.glob("*.partial*")) == []


async def test_who_comes_while_the_last_one_leaves_gets_a_download_of_its_own(
    origin: Origin, downloader: Downloader
) -> None:
    ranged = Ranged(PACKAGE, hold_at=MIB)
    url = origin.serve("/p", ranged)
    flowing = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        leaving = group.create_task(downloader.fetch(url, progress=when_flowing(flowing)))
        await flowing.wait()
        leaving.cancel()
        coming = group.create_task(downloader.fetch(url, progress=ignore))
        ranged.gate.set()
    assert leaving.cancelled()
    assert coming.result().sha256 == SHA256
    coming.result().close()
    assert len(origin.requests) == 2


async def test_all_who_wait_get_the_error(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p", serving.status(404))
    async with asyncio.TaskGroup() as group:
        results = [group.create_task(caught(downloader, url)) for _ in range(3)]
    assert len(origin.requests) == 1
    assert all(isinstance(task.result(), OriginRefusedError) for task in results)
    assert isinstance(await caught(downloader, url), OriginRefusedError)
    assert len(origin.requests) == 2, "an error is not remembered"


async def caught(downloader: Downloader, url: str) -> Exception:
    with pytest.raises(Exception) as info:  # noqa: PT011 - the caller looks at it
        await downloader.fetch(url, progress=ignore)
    return info.value


async def test_a_query_is_part_of_the_name_unless_the_digest_is_known(
    origin: Origin, downloader: Downloader
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    for digest, requests in (("", 2), (SHA256, 1)):
        origin.requests.clear()
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(downloader.fetch(f"{url}?{n}", progress=ignore, expected_sha256=digest))
                for n in range(2)
            ]
        for task in tasks:
            task.result().close()
        assert len(origin.requests) <= requests


# --------------------------------------------------------------------------------------- cache


async def test_a_package_with_a_known_digest_is_fetched_once_also_across_a_restart(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    for _ in range(3):
        downloader = Downloader(packages, policy=policy, clock=SystemClock())
        await downloader.clear()
        package = await downloader.fetch(url, progress=ignore, expected_sha256=SHA256.upper())
        assert (package.file.read(), package.sha256, package.size_bytes) == (PACKAGE, SHA256, len(PACKAGE))
        package.close()
        await downloader.close()
    assert len(origin.requests) == 1


async def test_without_a_digest_the_origin_is_asked_each_time(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    for _ in range(2):
        (await downloader.fetch(url, progress=ignore)).close()
    assert len(origin.requests) == 2


@pytest.mark.parametrize("damage", ["a bit", "cut", "emptied", "a link", "a directory"])
async def test_a_damaged_package_is_not_used(
    origin: Origin, downloader: Downloader, packages: Path, tmp_path: Path, damage: str
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    (await downloader.fetch(url, progress=ignore)).close()
    [path] = packages.glob("*.package")
    path.chmod(0o600)
    match damage:
        case "a bit":
            path.write_bytes(bytes([PACKAGE[0] ^ 1]) + PACKAGE[1:])
        case "cut":
            os.truncate(path, MIB)
        case "emptied":
            os.truncate(path, 0)
        case "a link":
            path.rename(tmp_path / "elsewhere")
            path.symlink_to(tmp_path / "elsewhere")
        case _:
            path.unlink()
            path.mkdir()
    if damage == "a directory":  # nobody but a person can have made it: said, not removed
        path.rmdir()
    package = await downloader.fetch(url, progress=ignore, expected_sha256=SHA256)
    assert package.file.read() == PACKAGE
    package.close()
    assert len(origin.requests) == 2


async def test_other_bytes_than_expected_are_handed_out_once_and_not_kept(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    package = await downloader.fetch(url, progress=ignore, expected_sha256="0" * 64)
    assert package.sha256 == SHA256
    assert kept(packages) == set()
    assert package.file.read() == PACKAGE
    package.close()
    assert list(packages.iterdir()) == []


async def test_the_least_recently_used_package_goes_first_and_never_one_in_use(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    clock = FakeClock()
    downloader = Downloader(packages, policy=replace(policy, cache_bytes=3 * MIB), clock=clock)
    digests = {}

    async def use(name: str) -> Download:
        clock.advance(10)
        data, digests[name] = content_of(name)
        url = origin.serve(f"/{name}", serving.content(data))
        return await downloader.fetch(url, progress=ignore, expected_sha256=digests[name])

    def names() -> set[str]:
        return {name for name, digest in digests.items() if digest in kept(packages)}

    for name in "abc":
        (await use(name)).close()
    assert names() == {"a", "b", "c"}
    (await use("a")).close()
    (await use("d")).close()
    assert names() == {"a", "c", "d"}, "a was used after b"
    held = [await use("c"), await use("a"), await use("d")]
    extra = await use("e")
    assert names() == {"a", "c", "d", "e"}, "all are in use: over the budget for so long"
    held[0].close()
    assert names() == {"a", "d", "e"}
    for one in (*held, extra):
        one.close()
    assert names() == {"a", "d", "e"}
    assert extra.file.closed
    await downloader.close()


@pytest.mark.parametrize("budget", [0, len(PACKAGE) - 1])
async def test_a_package_larger_than_the_budget_leaves_no_name(
    origin: Origin, policy: DownloadPolicy, packages: Path, budget: int
) -> None:
    downloader = Downloader(packages, policy=replace(policy, cache_bytes=budget), clock=SystemClock())
    package = await downloader.fetch(
        origin.serve("/p", serving.content(PACKAGE)), progress=ignore, expected_sha256=SHA256
    )
    assert list(packages.iterdir()) == []
    assert package.file.read() == PACKAGE
    package.close()
    await downloader.close()


async def test_what_the_cache_holds_makes_room_for_what_is_wanted(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    data, digest = content_of("old", 4 * MIB)
    downloader = Downloader(packages, policy=policy, clock=SystemClock())
    (await downloader.fetch(origin.serve("/old", serving.content(data)), progress=ignore)).close()
    assert kept(packages) == {digest}
    await downloader.close()
    tight = Downloader(packages, policy=replace(policy, reserve_bytes=2**60), clock=SystemClock())
    with pytest.raises(NoSpaceError):  # it was not enough, but nothing of it was spared
        await tight.fetch(origin.serve("/p", serving.content(PACKAGE)), progress=ignore)
    assert list(packages.iterdir()) == []
    await tight.close()


async def test_downloads_at_once_do_not_count_on_the_same_free_bytes(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    packages.mkdir()
    stats = os.statvfs(packages)
    free = stats.f_bavail * stats.f_frsize
    ranged = Ranged(bytes(8 * MIB), hold_at=64 * 1024)
    fits_once = replace(policy, reserve_bytes=max(0, free - 2**34), max_bytes=2**40)
    downloader = Downloader(packages, policy=fits_once, clock=SystemClock())
    flowing = asyncio.Event()
    large = Ranged(bytes(MIB))
    async with asyncio.TaskGroup() as group:
        first = group.create_task(
            downloader.fetch(origin.serve("/1", ranged), progress=when_flowing(flowing))
        )
        await flowing.wait()
        with pytest.raises(NoSpaceError) as caught_error:
            await downloader.fetch(origin.serve("/2", serving.short(b"", 2**34 - 4 * MIB)), progress=ignore)
        needed = caught_error.value.needed_bytes
        assert needed is not None
        assert needed >= fits_once.reserve_bytes + 2**34
        (await downloader.fetch(origin.serve("/3", large), progress=ignore)).close()
        ranged.gate.set()
    first.result().close()
    await downloader.close()


async def test_at_start_old_and_useless_partial_files_go_and_everything_else_stays(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.in_turn(Ranged(PACKAGE, cuts=[MIB]), serving.status(503)))
    clock = FakeClock()
    downloader = Downloader(packages, policy=policy, clock=SystemClock())
    await caught(downloader, url)
    await downloader.close()
    fresh = {path.name for path in packages.iterdir()}
    assert len(fresh) == 2
    for name in ("lost.partial", "alone.partial.json", "note.txt", "half.partial.json.new", "x.package"):
        (packages / name).write_bytes(b"half")
    [partial] = packages.glob("[0-9a-f]*.partial")
    day_s = 24 * 3600
    for age_s, left in ((day_s - 60, fresh), (day_s + 60, set[str]())):
        at = clock.now().timestamp() - age_s
        os.utime(partial, (at, at))
        again = Downloader(packages, policy=policy, clock=clock)
        await again.clear()
        await again.close()
        assert {path.name for path in packages.iterdir()} == left | {"note.txt", "x.package"}


async def test_a_package_that_cannot_be_kept_leaves_nothing_behind(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    in_the_way = packages / f"{SHA256}.package"
    in_the_way.mkdir(parents=True)
    with pytest.raises(HostError):
        await downloader.fetch(origin.serve("/p", Ranged(PACKAGE)), progress=ignore, expected_sha256=SHA256)
    assert list(packages.iterdir()) == [in_the_way]
