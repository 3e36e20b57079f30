# ruff: noqa: ASYNC240 — each test has a loop to itself
"""Cut downloads go on where they were cut: in the same fetch, in the next, and after the agent was killed."""

import asyncio
import hashlib
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from agent.download import Downloader, DownloadPolicy
from agent.errors import DownloadError, DownloadFailedError, DownloadTooLargeError, DownloadTooSlowError
from shared.clock import SystemClock
from tests.fakes import origin as serving
from tests.fakes.origin import Origin, Ranged
from tests.fakes.waiting import until

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
PACKAGE = hashlib.shake_128(b"package").digest(8 * MIB + 12_345)
OTHER = hashlib.shake_128(b"other").digest(len(PACKAGE))
SHA256 = hashlib.sha256(PACKAGE).hexdigest()
OLD = "Sat, 01 Jan 2022 00:00:00 GMT"
ROOT = Path(__file__).resolve().parents[2]


class HurriedClock(SystemClock):
    """Sleeps a hundredth of what it is told to."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds / 100)


async def fetch(packages: Path, policy: DownloadPolicy, url: str, sha256: str = "") -> str:
    """Fetch as an agent that was started again; return the digest of what came."""
    downloader = Downloader(packages, policy=policy, clock=HurriedClock())
    try:
        package = await downloader.fetch(url, progress=lambda _done, _total: None, expected_sha256=sha256)
        try:
            assert hashlib.sha256(await asyncio.to_thread(package.file.read)).hexdigest() == package.sha256
            return package.sha256
        finally:
            package.close()
    finally:
        await downloader.close()


async def cut_for_good(packages: Path, policy: DownloadPolicy, url: str, sha256: str = "") -> None:
    """Fetch from an origin that lets go and then is gone: what came stays."""
    with pytest.raises(DownloadError):
        await fetch(packages, policy, url, sha256)


def left_over(packages: Path) -> list[str]:
    return sorted(path.suffix for path in packages.iterdir() if path.suffix != ".package")


async def test_a_download_that_is_cut_ten_times_ends_whole_and_costs_only_what_is_missing(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[700_001] * 10)
    assert await fetch(packages, policy, origin.serve("/p", ranged)) == SHA256
    assert len(ranged.ranges) == 11
    assert ranged.ranges[1:] == [f"bytes={700_001 * n}-" for n in range(1, 11)]
    assert ranged.sent_bytes <= len(PACKAGE) * 1.05


@pytest.mark.parametrize(
    ("etag", "modified", "sha256", "resumed"),
    [
        ('"strong"', "", "", True),
        ("", OLD, "", True),
        ('W/"weak"', "", "", False),
        ("", "", "", False),
        ('W/"weak"', "", SHA256, True),
        ("", "", SHA256, True),
    ],
)
async def test_a_resume_needs_a_strong_validator_or_a_digest(
    origin: Origin,
    policy: DownloadPolicy,
    packages: Path,
    etag: str,
    modified: str,
    sha256: str,
    resumed: bool,
) -> None:
    ranged = Ranged(PACKAGE, etag=etag, last_modified=modified, cuts=[3 * MIB])
    url = origin.serve("/p", ranged)
    if resumed:
        assert await fetch(packages, policy, url, sha256) == SHA256
        assert ranged.ranges == ["", f"bytes={3 * MIB}-"]
    else:
        await cut_for_good(packages, policy, url)
        assert left_over(packages) == []


async def test_the_next_fetch_goes_on_where_the_last_one_was_left(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB])
    url = origin.serve("/p", serving.in_turn(ranged, *[serving.status(503)] * 5, ranged))
    await cut_for_good(packages, policy, url)
    assert left_over(packages) == [".json", ".partial"]
    assert await fetch(packages, policy, url) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-"]
    assert left_over(packages) == []


async def test_no_query_is_written_down(origin: Origin, policy: DownloadPolicy, packages: Path) -> None:
    url = origin.serve("/p", serving.in_turn(Ranged(PACKAGE, cuts=[3 * MIB]), serving.status(503)))
    await cut_for_good(packages, policy, f"{url}?token=CANARY", SHA256)
    [record] = packages.glob("*.json")
    assert "/p" in record.read_text()
    assert not any(b"CANARY" in path.read_bytes() for path in packages.iterdir())


async def test_a_query_may_change_between_fetches_when_the_digest_is_known(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB])
    url = origin.serve("/p", serving.in_turn(ranged, *[serving.status(503)] * 5, ranged))
    await cut_for_good(packages, policy, f"{url}?token=1", SHA256)
    assert await fetch(packages, policy, f"{url}?token=2", SHA256) == SHA256
    assert ranged.ranges[-1] == f"bytes={3 * MIB}-"


async def test_a_query_may_name_the_package_so_without_a_digest_nothing_is_kept(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.in_turn(Ranged(PACKAGE, cuts=[3 * MIB]), serving.status(503)))
    await cut_for_good(packages, policy, f"{url}?artifact=1")
    assert left_over(packages) == []


@pytest.mark.parametrize("sha256", ["", hashlib.sha256(OTHER).hexdigest()])
async def test_an_origin_that_changed_between_fetches_is_read_from_the_beginning(
    origin: Origin, policy: DownloadPolicy, packages: Path, sha256: str
) -> None:
    first, second = Ranged(PACKAGE, cuts=[3 * MIB]), Ranged(OTHER, etag='"two"')
    url = origin.serve("/p", serving.in_turn(first, *[serving.status(503)] * 5, second))
    await cut_for_good(packages, policy, url, sha256)
    assert await fetch(packages, policy, url, sha256) == hashlib.sha256(OTHER).hexdigest()
    assert second.ranges == [f"bytes={3 * MIB}-"]


async def test_an_origin_that_changed_unseen_is_found_out_by_the_digest(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(OTHER, etag="", cuts=[3 * MIB])

    async def cut_then_other(request: web.Request) -> web.StreamResponse:
        response = await ranged(request)
        ranged.data = PACKAGE
        return response

    assert await fetch(packages, policy, origin.serve("/p", cut_then_other), SHA256) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-", ""]


async def test_an_origin_that_changes_again_and_again_is_given_up(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    turns = [Ranged(PACKAGE, etag=f'"{n}"', cuts=[MIB]) for n in range(10)]
    with pytest.raises(DownloadFailedError, match="changes while it is read"):
        await fetch(packages, policy, origin.serve("/p", serving.in_turn(*turns)))
    assert len(origin.requests) <= 5


def other_total(headers: dict[str, str]) -> None:
    headers["Content-Range"] = f"bytes {3 * MIB}-{len(PACKAGE)}/{len(PACKAGE) + 1}"


def other_start(headers: dict[str, str]) -> None:
    headers["Content-Range"] = f"bytes 7-{len(PACKAGE) - 1}/{len(PACKAGE)}"


def other_end(headers: dict[str, str]) -> None:
    headers["Content-Range"] = f"bytes {3 * MIB}-{3 * MIB + 9}/{len(PACKAGE)}"


def no_range(headers: dict[str, str]) -> None:
    del headers["Content-Range"]


def other_etag(headers: dict[str, str]) -> None:
    headers["ETag"] = '"another"'


@pytest.mark.parametrize("lie", [other_total, other_start, other_end, no_range, other_etag])
async def test_a_resumed_answer_that_does_not_fit_is_not_used(
    origin: Origin, policy: DownloadPolicy, packages: Path, lie: object
) -> None:
    assert callable(lie)
    ranged = Ranged(PACKAGE, cuts=[3 * MIB], lie=lie)
    assert await fetch(packages, policy, origin.serve("/p", ranged)) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-", ""]


async def test_a_length_that_was_not_told_is_no_hindrance(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB], measured=False)
    assert await fetch(packages, policy, origin.serve("/p", ranged)) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-"]


async def test_an_origin_that_sends_more_than_it_said_is_refused(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    async def more(request: web.Request) -> web.StreamResponse:
        total = len(PACKAGE)
        headers = {"ETag": '"one"', "Content-Range": f"bytes {3 * MIB}-{total - 1}/{total}"}
        response = web.StreamResponse(status=206, headers=headers)
        await response.prepare(request)
        await response.write(PACKAGE)
        return response

    url = origin.serve("/p", serving.in_turn(Ranged(PACKAGE, cuts=[3 * MIB]), more))
    with pytest.raises(DownloadTooLargeError, match="more came"):
        await fetch(packages, policy, url)
    assert left_over(packages) == []


async def test_an_origin_that_lets_go_and_brings_nothing_more_is_given_up(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.in_turn(Ranged(PACKAGE, cuts=[MIB]), serving.status(503)))
    await cut_for_good(packages, policy, url)
    assert len(origin.requests) == 6


async def test_an_origin_that_hands_out_a_byte_at_a_time_is_given_up(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[1] * 1_000)
    await cut_for_good(packages, policy, origin.serve("/p", ranged))
    assert len(ranged.ranges) <= 102


async def test_an_origin_that_stalls_leaves_its_bytes_for_the_next_fetch(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, hold_at=3 * MIB)
    url = origin.serve("/p", ranged)
    with pytest.raises(DownloadTooSlowError):
        await fetch(packages, replace(policy, read_timeout_s=0.3), url)
    ranged.gate.set()
    assert await fetch(packages, policy, url) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-"]


async def test_only_an_agent_that_stops_keeps_what_a_cancelled_download_has(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, hold_at=3 * MIB)
    url = origin.serve("/p", ranged)
    for stops in (False, True):
        downloader, flowing = Downloader(packages, policy=policy, clock=HurriedClock()), asyncio.Event()
        async with asyncio.TaskGroup() as group:
            task = group.create_task(downloader.fetch(url, progress=partial(tell, flowing)))
            await flowing.wait()
            if stops:
                downloader.suspend()
            task.cancel()
        await downloader.close()
        assert left_over(packages) == ([".json", ".partial"] if stops else [])


def tell(flowing: asyncio.Event, done: int, _total: int | None) -> None:
    """Progress that says when three MiB are there."""
    if done >= 3 * MIB:
        flowing.set()


async def test_a_partial_file_without_a_good_record_is_not_believed(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB])
    url = origin.serve("/p", serving.in_turn(ranged, *[serving.status(503)] * 5, ranged))
    await cut_for_good(packages, policy, url)
    [record] = packages.glob("*.json")
    record.write_text('{"url": "https://elsewhere.example/p", "sha256": ""}')
    assert await fetch(packages, policy, url) == SHA256
    assert ranged.ranges == ["", ""]


async def test_a_partial_file_that_was_damaged_meanwhile_is_found_out_by_the_digest(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB])
    url = origin.serve("/p", serving.in_turn(ranged, *[serving.status(503)] * 5, ranged))
    await cut_for_good(packages, policy, url, SHA256)
    [found] = packages.glob("*.partial")
    found.write_bytes(bytes(3 * MIB))
    assert await fetch(packages, policy, url, SHA256) == SHA256
    assert ranged.ranges == ["", f"bytes={3 * MIB}-", ""]


async def test_a_partial_file_that_is_a_link_is_not_followed(
    origin: Origin, policy: DownloadPolicy, packages: Path, tmp_path: Path
) -> None:
    ranged = Ranged(PACKAGE, cuts=[3 * MIB])
    url = origin.serve("/p", serving.in_turn(ranged, *[serving.status(503)] * 5, ranged))
    await cut_for_good(packages, policy, url)
    [found] = packages.glob("*.partial")
    precious = tmp_path / "precious"
    precious.write_bytes(b"precious")
    found.unlink()
    found.symlink_to(precious)
    assert await fetch(packages, policy, url) == SHA256
    assert precious.read_bytes() == b"precious"


@pytest.mark.parametrize("sha256", ["", "known"])
async def test_a_killed_agent_goes_on_where_it_was(
    origin: Origin, policy: DownloadPolicy, packages: Path, sha256: str
) -> None:
    data = hashlib.shake_128(b"large").digest(40 * MIB)
    expected = hashlib.sha256(data).hexdigest() if sha256 else ""
    ranged = Ranged(data, hold_at=30 * MIB)
    url = origin.serve("/p", ranged)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.fakes.fetching", url, str(origin.ca_file), str(packages), expected),
        cwd=ROOT,
    )
    try:
        await until(lambda: sum(path.stat().st_size for path in packages.glob("*.partial")) >= 29 * MIB)
    finally:
        process.kill()
        await process.wait()
    ranged.gate.set()
    assert await fetch(packages, policy, url, expected) == hashlib.sha256(data).hexdigest()
    assert ranged.ranges[1] in {f"bytes={n * MIB}-" for n in (29, 30)}
    assert ranged.sent_bytes <= len(data) * 1.05
