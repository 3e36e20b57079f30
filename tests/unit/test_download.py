# ruff: noqa: ASYNC240 — each test has a loop to itself

import asyncio
import hashlib
import os
import stat
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.download import Downloader, DownloadPolicy
from agent.errors import (
    DownloadError,
    DownloadFailedError,
    DownloadTooLargeError,
    DownloadTooSlowError,
    HostError,
    NoSpaceError,
    OriginRefusedError,
    OriginServerError,
    UntrustedCertificateError,
    UrlRefusedError,
)
from releasehand.model.codes import TRANSIENT
from shared.clock import SystemClock
from shared.errors import AttemptError
from shared.urls import redact_url
from tests.fakes import origin as serving
from tests.fakes.origin import Origin

pytestmark = pytest.mark.slow

PACKAGE = bytes(range(256)) * 12_000  # just under 3 MiB, so that blocks do not fit evenly
LOOPBACK = (ip_network("127.0.0.0/8"),)
CANARY = "CANARY-credential"


class StridingClock(SystemClock):
    """A clock that a test moves on by hand."""

    def __init__(self) -> None:
        self.at = 0.0

    def monotonic(self) -> float:
        return self.at


async def fetch_with(packages: Path, policy: DownloadPolicy, url: str) -> None:
    """Fetch `url` under `policy`, for the error it raises."""
    downloader = Downloader(packages, policy=policy, clock=SystemClock())
    try:
        (await downloader.fetch(url, progress=ignore)).close()
    finally:
        await downloader.close()


def ignore(_done: int, _total: int | None) -> None:
    """Progress that nobody looks at."""


async def test_a_package_arrives_whole_hashed_and_rewound(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p.tar.gz", serving.content(PACKAGE))
    seen: list[tuple[int, int | None]] = []
    download = await downloader.fetch(url, progress=lambda done, total: seen.append((done, total)))
    try:
        assert download.file.tell() == 0
        assert download.file.read(len(PACKAGE) + 1) == PACKAGE
        assert download.sha256 == hashlib.sha256(PACKAGE).hexdigest()
        assert download.size_bytes == len(PACKAGE)
        assert stat.S_IMODE(download.path.stat().st_mode) == 0o400
        assert not os.get_inheritable(download.file.fileno())
    finally:
        download.close()
    assert seen[0] == (0, len(PACKAGE))
    assert seen[-1] == (len(PACKAGE), len(PACKAGE))
    assert seen == sorted(seen)
    assert download.path.exists(), "it stays for the next one who wants it"


async def test_a_package_of_untold_length_arrives_whole(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p", serving.unmeasured(PACKAGE))
    download = await downloader.fetch(url, progress=ignore)
    assert download.sha256 == hashlib.sha256(PACKAGE).hexdigest()
    download.close()
    download.close()


async def test_the_file_that_was_hashed_is_the_file_that_is_read(
    origin: Origin, downloader: Downloader
) -> None:
    download = await downloader.fetch(origin.serve("/p", serving.content(PACKAGE)), progress=ignore)
    download.path.unlink()
    download.path.write_bytes(b"put there by somebody else")
    assert hashlib.sha256(download.file.read(len(PACKAGE))).hexdigest() == download.sha256
    download.close()


async def test_a_cut_download_is_transient_and_leaves_nothing(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    url = origin.serve("/p", serving.short(PACKAGE, len(PACKAGE) * 2))
    with pytest.raises(DownloadFailedError) as caught:
        await downloader.fetch(url, progress=ignore)
    assert caught.value.code in TRANSIENT
    assert list(packages.iterdir()) == []


@pytest.mark.parametrize("code", [500, 502, 503, 504, 408, 429])
async def test_an_origin_in_trouble_is_transient(origin: Origin, downloader: Downloader, code: int) -> None:
    with pytest.raises(OriginServerError, match=str(code)):
        await downloader.fetch(origin.serve("/p", serving.status(code)), progress=ignore)


@pytest.mark.parametrize("code", [204, 304, 400, 401, 403, 404, 410])
async def test_what_a_repeat_will_not_change_is_final(
    origin: Origin, downloader: Downloader, code: int
) -> None:
    with pytest.raises(OriginRefusedError, match=str(code)) as caught:
        await downloader.fetch(origin.serve("/p", serving.status(code)), progress=ignore)
    assert caught.value.code not in TRANSIENT


async def test_an_origin_that_recovers_is_served_from_again(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p", serving.in_turn(serving.status(503), serving.content(PACKAGE)))
    with pytest.raises(OriginServerError):
        await downloader.fetch(url, progress=ignore)
    (await downloader.fetch(url, progress=ignore)).close()


async def test_an_unknown_authority_is_not_trusted(origin: Origin, packages: Path) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    with pytest.raises(UntrustedCertificateError, match="not trusted"):
        await fetch_with(packages, DownloadPolicy(reserve_bytes=0, allowed_networks=LOOPBACK), url)
    assert origin.requests == []


async def test_a_certificate_for_another_name_is_not_trusted(origin: Origin, downloader: Downloader) -> None:
    url = origin.serve("/p", serving.content(PACKAGE)).replace("localhost", "127.0.0.2")
    with pytest.raises((UntrustedCertificateError, DownloadFailedError)):
        await downloader.fetch(url, progress=ignore)
    assert origin.requests == []


async def test_a_host_that_is_not_there_is_transient(downloader: Downloader, unused_tcp_port: int) -> None:
    with pytest.raises(DownloadFailedError, match=r"Connection refused$"):
        await downloader.fetch(f"https://127.0.0.1:{unused_tcp_port}/p", progress=ignore)


async def test_three_redirects_are_followed_and_a_fourth_is_not(
    origin: Origin, downloader: Downloader
) -> None:
    origin.serve("/0", serving.content(PACKAGE))
    for number in (1, 2, 3, 4):
        origin.serve(f"/{number}", serving.redirect(f"/{number - 1}", 301 + number % 2))
    (await downloader.fetch(origin.url("/3"), progress=ignore)).close()
    with pytest.raises(UrlRefusedError, match="redirected more than 3 times"):
        await downloader.fetch(origin.url("/4"), progress=ignore)


@pytest.mark.parametrize(
    "location",
    [
        "http://localhost/p",
        "//user:pass@localhost/p",
        "file:///etc/passwd",
        "https://elsewhere.example/p",
        "",
        "https://[",
    ],
)
async def test_a_redirect_is_held_to_the_same_rules(origin: Origin, packages: Path, location: str) -> None:
    policy = DownloadPolicy(
        extra_ca_file=origin.ca_file, reserve_bytes=0, allowed_networks=LOOPBACK, allowed_hosts=("localhost",)
    )
    url = origin.serve("/p", serving.redirect(location))
    with pytest.raises(UrlRefusedError):
        await fetch_with(packages, policy, url)
    assert len(origin.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost/p", "ftp://localhost/p", "file:///etc/passwd", "https://user@localhost/p", "https://@localhost/",
        "https://u:p@localhost/p", "https:///p", "localhost/p", "", "https://localhost:99999/p", "https://[::1/p",
        "https://localhost/a b", "https://localhost/a\nb", "https://localhost/ü",
    ],
)  # fmt: skip
async def test_a_bad_url_is_refused_before_anything_is_asked(
    downloader: Downloader, url: str, packages: Path
) -> None:
    with pytest.raises(UrlRefusedError):
        await downloader.fetch(url, progress=ignore)
    assert not packages.exists()


async def test_a_presigned_query_is_sent_byte_for_byte(origin: Origin, downloader: Downloader) -> None:
    query = "?X-Sig=a%2Fb%2bc%7E+d&e=%41&f"
    origin.serve("/p-x", serving.content(b"x"))
    (await downloader.fetch(origin.url("/p%2Dx") + query, progress=ignore)).close()
    [(asked, headers)] = origin.requests
    assert asked == "/p%2Dx" + query
    assert headers["Accept-Encoding"] == "identity"


async def test_a_query_is_in_no_error_text(origin: Origin, policy: DownloadPolicy, packages: Path) -> None:
    slow = replace(policy, read_timeout_s=0.05)
    query = f"?token={CANARY}"
    urls = [
        origin.serve("/500", serving.status(500)),
        origin.serve("/404", serving.status(404)),
        origin.serve("/short", serving.short(b"x", 9)),
        origin.serve("/stall", serving.gated(b"x", asyncio.Event(), stated=9)),
        origin.serve("/loop", serving.redirect(f"/loop{query}")),
        origin.serve("/http", serving.redirect(f"http://localhost/{query}")),
        origin.serve("/bad", serving.redirect(f"https://[{query}")),
        "http://localhost/",
        "https://[/",
        "https://localhost:1/",
    ]
    for url in urls:
        with pytest.raises(AttemptError) as caught:
            await fetch_with(packages, slow, url + query)
        assert CANARY not in str(caught.value) + repr(vars(caught.value))
        assert caught.value.__cause__ is None


async def test_a_package_that_says_it_is_too_large_is_not_read(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    with pytest.raises(DownloadTooLargeError):
        await fetch_with(packages, replace(policy, max_bytes=len(PACKAGE) - 1), url)
    assert list(packages.iterdir()) == []


async def test_an_endless_package_is_given_up(origin: Origin, policy: DownloadPolicy, packages: Path) -> None:
    url = origin.serve("/p", serving.endless())
    with pytest.raises(DownloadTooLargeError):
        await fetch_with(packages, replace(policy, max_bytes=5_000_000), url)
    assert list(packages.iterdir()) == []


async def test_a_package_of_exactly_the_largest_size_is_taken(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    await fetch_with(
        packages, replace(policy, max_bytes=len(PACKAGE)), origin.serve("/p", serving.unmeasured(PACKAGE))
    )


async def test_an_origin_that_falls_silent_is_too_slow(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.gated(b"x", asyncio.Event(), stated=9))
    with pytest.raises(DownloadTooSlowError, match="not a single byte"):
        await fetch_with(packages, replace(policy, read_timeout_s=0.1), url)


async def test_an_origin_that_trickles_is_too_slow(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    gate, clock = asyncio.Event(), StridingClock()
    url = origin.serve("/p", serving.gated(b"x" * 1000, gate, stated=3000))
    downloader = Downloader(packages, policy=policy, clock=clock)

    def a_minute_passes(done: int, _total: int | None) -> None:
        if done:
            clock.at += 61.0
            gate.set()

    try:
        with pytest.raises(DownloadTooSlowError, match="1024 is the least"):
            await downloader.fetch(url, progress=a_minute_passes)
    finally:
        await downloader.close()


async def test_missing_space_is_told_before_the_first_byte(
    origin: Origin, policy: DownloadPolicy, packages: Path
) -> None:
    url = origin.serve("/p", serving.content(PACKAGE))
    with pytest.raises(NoSpaceError) as caught:
        await fetch_with(packages, replace(policy, reserve_bytes=2**60), url)
    assert caught.value.needed_bytes == 2**60 + len(PACKAGE)
    assert caught.value.free_bytes is not None
    assert str(caught.value.needed_bytes) in str(caught.value)
    assert str(caught.value.free_bytes) in str(caught.value)
    assert list(packages.iterdir()) == []


async def test_a_cancelled_download_closes_its_socket_and_leaves_nothing(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    url = origin.serve("/p", serving.gated(PACKAGE, asyncio.Event(), stated=2 * len(PACKAGE)))
    flowing = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(
            downloader.fetch(url, progress=lambda done, _: flowing.set() if done else None)
        )
        await flowing.wait()
        task.cancel()
    assert task.cancelled()
    assert list(packages.iterdir()) == []
    async with asyncio.timeout(10):
        await origin.gone.wait()


async def test_the_environment_decides_nothing(
    origin: Origin, downloader: Downloader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text(f"machine localhost login me password {CANARY}\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    (await downloader.fetch(origin.serve("/p", serving.content(b"x")), progress=ignore)).close()
    assert "Authorization" not in origin.requests[0][1]


async def test_what_a_dead_agent_left_is_removed(
    origin: Origin, downloader: Downloader, packages: Path
) -> None:
    packages.mkdir()
    (packages / "0123-45.partial").write_bytes(b"half")
    (packages / "note.txt").write_bytes(b"somebody else's")
    download = await downloader.fetch(origin.serve("/p", serving.content(b"x")), progress=ignore)
    assert sorted(path.name for path in packages.iterdir()) == sorted([download.path.name, "note.txt"])
    download.close()


async def test_a_missing_extra_ca_file_is_a_host_error(origin: Origin, packages: Path) -> None:
    policy = DownloadPolicy(
        extra_ca_file=packages / "missing.pem", reserve_bytes=0, allowed_networks=LOOPBACK
    )
    with pytest.raises(HostError, match=r"missing\.pem"):
        await fetch_with(packages, policy, origin.serve("/p", serving.content(b"x")))


def test_each_download_error_has_a_code_of_its_own() -> None:
    codes = [error.code for error in DownloadError.__subclasses__()]
    assert len(codes) == len(set(codes)) == 6


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://h:8443/p?a=secret", "https://h:8443/p?…"),
        ("https://me:secret@h/p#secret", "https://h/p"),
        ("https://[::1]:1/p?x", "https://[::1]:1/p?…"),
        ("https://h/\x1b[31m", "https://h/\\x1b[31m"),
        ("https://h:port/p?secret", "(unreadable URL)"),
        ("", "://"),
    ],
)
def test_a_shown_url_holds_no_credentials(url: str, shown: str) -> None:
    assert redact_url(url) == shown
