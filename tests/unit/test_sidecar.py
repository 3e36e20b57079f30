"""The small files beside a package, from a real HTTPS origin and by the rules of the package itself."""

import asyncio
from ipaddress import ip_network
from pathlib import Path

import pytest

from agent.download import Downloader, DownloadPolicy
from agent.download.origin import open_session
from agent.download.sidecar import MAX_SIDECAR_BYTES, fetch_sidecar, sidecar_url
from agent.errors import (
    DownloadTooLargeError,
    DownloadTooSlowError,
    OriginRefusedError,
    OriginServerError,
    UntrustedCertificateError,
    UrlRefusedError,
)
from agent.verify import Request, VerificationPolicy, verify_package
from releasehand.model.codes import TRANSIENT, FailureCode
from shared.clock import SystemClock
from shared.errors import AttemptError
from tests.fakes import origin as serving
from tests.fakes.origin import Origin
from tests.fakes.signing import PACKAGE, Keys, signature

LOOPBACK = (ip_network("127.0.0.0/8"),)


@pytest.mark.parametrize(
    ("url", "beside"),
    [
        ("https://o.example/a.tgz", "https://o.example/a.tgz.minisig"),
        ("https://o.example/a.tgz?sig=a%2Fb&x=", "https://o.example/a.tgz.minisig?sig=a%2Fb&x="),
        ("https://o.example/a%20b.tgz#part", "https://o.example/a%20b.tgz.minisig"),
        ("https://o.example:8443/d;v=1/a.tgz", "https://o.example:8443/d;v=1/a.tgz.minisig"),
        ("https://o.example/", "https://o.example/.minisig"),
    ],
)
def test_the_suffix_goes_after_the_path_and_the_query_stays(url: str, beside: str) -> None:
    assert sidecar_url(url, ".minisig") == beside


async def test_a_sidecar_is_fetched_with_the_query_of_the_package(
    origin: Origin, downloader: Downloader
) -> None:
    url = origin.serve("/v1.tgz.sha256", serving.content(b"abc")).removesuffix(".sha256")
    assert await downloader.fetch_sidecar(f"{url}?token=CANARY", ".sha256") == b"abc"
    assert [path for path, _ in origin.requests] == ["/v1.tgz.sha256?token=CANARY"]


@pytest.mark.parametrize("size", [0, MAX_SIDECAR_BYTES, MAX_SIDECAR_BYTES + 1])
async def test_a_sidecar_has_at_most_8_kib(origin: Origin, downloader: Downloader, size: int) -> None:
    url = origin.serve("/p.minisig", serving.unmeasured(bytes(size))).removesuffix(".minisig")
    if size <= MAX_SIDECAR_BYTES:
        assert await downloader.fetch_sidecar(url, ".minisig") == bytes(size)
    else:
        with pytest.raises(DownloadTooLargeError):
            await downloader.fetch_sidecar(url, ".minisig")


async def test_an_endless_sidecar_is_cut_off(origin: Origin, downloader: Downloader) -> None:
    origin.serve("/p.minisig", serving.endless())
    with pytest.raises(DownloadTooLargeError):
        await downloader.fetch_sidecar(origin.url("/p"), ".minisig")


async def test_a_sidecar_that_trickles_is_given_up_and_may_be_tried_again(
    origin: Origin,
) -> None:
    origin.serve("/p.minisig", serving.gated(b"untrusted", asyncio.Event(), stated=400))
    policy = DownloadPolicy(extra_ca_file=origin.ca_file, allowed_networks=LOOPBACK)
    async with await open_session(policy) as session:
        with pytest.raises(DownloadTooSlowError) as caught:
            await fetch_sidecar(session, origin.url("/p"), ".minisig", policy, timeout_s=0)
    assert caught.value.code in TRANSIENT


@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (serving.status(404), OriginRefusedError),
        (serving.status(403), OriginRefusedError),
        (serving.status(503), OriginServerError),
        (serving.redirect("http://localhost/p.minisig"), UrlRefusedError),
        (serving.redirect("file:///etc/passwd"), UrlRefusedError),
        (serving.redirect("https://169.254.169.254/p.minisig"), UrlRefusedError),
    ],
    ids=["404", "403", "503", "to http", "to a file", "to the cloud's metadata"],
)
async def test_the_rules_of_a_package_hold_for_its_sidecars(
    origin: Origin, downloader: Downloader, behaviour: serving.Behaviour, error: type[AttemptError]
) -> None:
    origin.serve("/p.minisig", behaviour)
    with pytest.raises(error) as caught:
        await downloader.fetch_sidecar(origin.url("/p") + "?token=CANARY", ".minisig")
    assert "CANARY" not in str(caught.value)


async def test_an_origin_that_nobody_vouches_for_is_not_asked(origin: Origin, tmp_path: Path) -> None:
    origin.serve("/p.minisig", serving.content(b"abc"))
    downloader = Downloader(
        tmp_path, policy=DownloadPolicy(reserve_bytes=0, allowed_networks=LOOPBACK), clock=SystemClock()
    )
    with pytest.raises(UntrustedCertificateError):
        await downloader.fetch_sidecar(origin.url("/p"), ".minisig")
    await downloader.close()
    assert origin.requests == []


async def test_download_and_verification_work_together_and_leave_the_package_ready(
    origin: Origin, downloader: Downloader, tmp_path: Path
) -> None:
    keys = Keys(tmp_path)
    keys.trust("release")
    policy = VerificationPolicy(keys.trusted_dir, keys.revoked_dir)
    url = origin.serve("/web-v1.tar.gz", serving.content(PACKAGE)) + "?token=CANARY"
    request = Request(service="web", version="v1", url=url)
    package = await downloader.fetch(url, progress=lambda done, total: None)
    try:
        with pytest.raises(AttemptError) as caught:
            await verify_package(package, request, policy, downloader.fetch_sidecar)
        assert caught.value.code is FailureCode.SIGNATURE_MISSING
        assert "CANARY" not in str(caught.value)
        origin.serve("/web-v1.tar.gz.minisig", serving.content(signature("good")))
        await verify_package(package, request, policy, downloader.fetch_sidecar)
        assert package.file.read() == PACKAGE
    finally:
        package.close()
