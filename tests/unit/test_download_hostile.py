"""Answers that no honest server gives, sent byte by byte."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
import trustme

from agent.download import Downloader, DownloadPolicy
from agent.download.record import PartialRecord
from agent.errors import DownloadTooSlowError
from shared.clock import SystemClock

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def serve(answer: Answer, ca_file: Path) -> AsyncIterator[str]:
    """A TLS server that reads a request and then does as `answer` says; what cuts it off is no matter."""
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(str(ca_file))

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await answer(writer)
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://localhost:{server.sockets[0].getsockname()[1]}/p"


async def fetch(url: str, tmp_path: Path, sha256: str = "") -> int:
    """The size of what came."""
    policy = DownloadPolicy(
        extra_ca_file=tmp_path / "ca.pem",
        reserve_bytes=0,
        allowed_networks=(ip_network("127.0.0.0/8"),),
        connect_timeout_s=0.5,
        read_timeout_s=0.5,
    )
    packages = tmp_path / "packages"
    packages.mkdir()
    downloader = Downloader(packages, policy=policy, clock=SystemClock())
    try:
        package = await downloader.fetch(url, progress=lambda *_: None, expected_sha256=sha256)
        package.close()
        return package.size_bytes
    finally:
        await downloader.close()


async def interim_for_ever(writer: asyncio.StreamWriter) -> None:
    clock = SystemClock()
    while True:
        writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" * 100)
        await writer.drain()
        # On a TLS connection that was lost a moment ago drain() neither waits nor raises: without a turn for
        # the loop it would never hear of the end, and this would go on until the test's time is up.
        await clock.sleep(0)


async def test_an_origin_that_never_comes_to_its_answer_is_too_slow(tmp_path: Path) -> None:
    async with serve(interim_for_ever, tmp_path / "ca.pem") as url:
        with pytest.raises(DownloadTooSlowError, match="its headers did not come within 1 s"):
            await fetch(url, tmp_path)
    assert list((tmp_path / "packages").iterdir()) == []


async def test_headers_of_any_bytes_are_no_hindrance(tmp_path: Path) -> None:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "\xff\xfe"\r\nContent-Length: 3\r\n\r\nabc')
        await writer.drain()

    async with serve(answer, tmp_path / "ca.pem") as url:
        assert await fetch(url, tmp_path, sha256="0" * 64) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ETag", '"\udcff"'),
        ("ETag", '"a\tb"'),
        ("ETag", '"' + "x" * 1_024 + '"'),
        ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT (\udcff)"),
    ],
)
def test_a_validator_that_cannot_be_sent_back_is_none(name: str, value: str) -> None:
    headers = {name: value, "Date": "Sun, 06 Nov 2094 08:49:37 GMT"}
    described = PartialRecord(url="https://a/", sha256="").described(headers, 3)
    assert described.if_range == ""
