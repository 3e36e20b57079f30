"""What hosts fetch from the API to become agents: the script, and packages as they are."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
import trustme

from controller.api import RateLimits, make_api, serve_api
from controller.api.install import PACKAGE_TYPE
from controller.api.places import Places
from controller.install import Installer, PackageFolder
from shared.tls import client_context
from tests.fakes.api_server import ApiClient, ApiServer

FILE = "releasehand-daemons_0.1.0+py3.11_amd64.deb"
CONTENT = bytes(range(256)) * 4096 * 3 + b"an end that is no whole chunk"


@pytest.fixture
def server(tmp_path: Path) -> ApiServer:
    (tmp_path / FILE).write_bytes(CONTENT)
    folder = PackageFolder(tmp_path)
    return ApiServer(installer=Installer("https://ctl:8080", "wss://ctl:8443", folder))


@pytest.fixture
async def client(server: ApiServer) -> AsyncIterator[ApiClient]:
    client = await server.start()
    yield client
    await client.http.close()


async def test_the_script_is_text_for_everybody(client: ApiClient) -> None:
    reply = await client.call_without_token("GET", "/install.sh")
    assert reply.status == 200
    assert reply.headers["Content-Type"] == "text/plain; charset=utf-8"
    assert reply.headers["X-Content-Type-Options"] == "nosniff"
    assert reply.text.startswith("#!/bin/sh\n{ ")
    assert FILE in reply.text


async def test_a_controller_that_installs_nothing_says_so_in_a_script_that_fails() -> None:
    client = await ApiServer().start()
    reply = await client.call_without_token("GET", "/install.sh")
    await client.http.close()
    assert reply.status == 200  # curl -f would give a shell nothing to do, and that counts as done
    assert "not set up to install agents" in reply.text
    assert reply.text.endswith("exit 1\n}\n")


async def test_a_package_comes_as_it_is(client: ApiClient) -> None:
    async with client.http.get(f"/install/{FILE}") as reply:
        assert (reply.status, reply.content_type) == (200, PACKAGE_TYPE)
        assert reply.content_length == len(CONTENT)
        assert await reply.read() == CONTENT
    async with client.http.head(f"/install/{FILE}") as reply:
        assert (reply.status, reply.content_length) == (200, len(CONTENT))


async def test_a_package_comes_over_tls_too(server: ApiServer, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    connector = aiohttp.TCPConnector(ssl=client_context(tmp_path / "ca.pem"))
    async with (
        serve_api(make_api(server.deps()), "127.0.0.1", 0, tls=tls) as address,
        aiohttp.ClientSession(connector=connector) as http,
        asyncio.timeout(10),
    ):
        for _ in range(3):
            async with http.get(f"{address}/install/{FILE}") as reply:
                assert await reply.read() == CONTENT


@pytest.mark.parametrize(
    "path", ["other.deb", "..%2F..%2Fetc%2Fpasswd", "%2Fetc%2Fpasswd", f"..%2F{FILE}", "%00.deb", "..", "."]
)
async def test_nothing_else_can_be_fetched(client: ApiClient, path: str) -> None:
    reply = await client.call_without_token("GET", f"/install/{path}")
    assert (reply.status, reply.json["error"]["type"]) == (404, "not_found")


async def test_an_address_that_asks_too_often_is_told_so(server: ApiServer) -> None:
    server.rates = RateLimits(per_s=0.001, burst=2)
    client = await server.start()
    for path in ("/install.sh", f"/install/{FILE}"):
        assert (await client.call_without_token("HEAD", path)).status == 200
    for path in ("/install.sh", f"/install/{FILE}"):
        reply = await client.call_without_token("GET", path)
        assert (reply.status, reply.json["error"]["type"]) == (429, "too_many_requests")
    await client.http.close()


@pytest.mark.parametrize(("slow_reader_s", "download_s"), [(0.3, 30.0), (30.0, 0.3)])
async def test_downloads_have_places_and_a_host_that_is_too_slow_loses_its_own(
    server: ApiServer, tmp_path: Path, slow_reader_s: float, download_s: float
) -> None:
    """It takes too long for a piece, or for the whole."""
    os.truncate(tmp_path / FILE, 64 * 1024 * 1024)  # more than what buffers on the way take
    server.downloads = Places(1, 1, what="downloads", instead="come back")
    server.slow_reader_s, server.download_s = slow_reader_s, download_s
    async with serve_api(make_api(server.deps()), "127.0.0.1", 0) as address:
        host, port = address.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
        writer.write(f"GET /install/{FILE} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        async with aiohttp.ClientSession() as http:
            async with http.get(f"{address}/install/{FILE}") as refused:
                assert refused.status == 429
                assert "1 downloads are open already" in (await refused.json())["error"]["detail"]
            async with asyncio.timeout(10):
                while len(server.downloads):
                    async with http.get(f"{address}/livez") as alive:
                        assert alive.status == 200
            async with http.head(f"{address}/install/{FILE}") as reply:
                assert reply.status == 200
        writer.close()
