"""The API over TLS: a certificate that follows its files, and what is no pair."""

import asyncio
import hashlib
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trustme
from aiohttp import ClientSession, TCPConnector

from controller.api import make_api, serve_api
from controller.certificate import FollowedCertificate, find_pair_problems
from controller.handshakes import MAX_OF_ONE
from shared.tls import client_context
from tests.fakes.api_server import BEARER, ApiServer
from tests.fakes.clock import FakeClock

AUTHORITY = trustme.CA()


class Pair:
    """Two files, as whatever renews certificates writes them."""

    def __init__(self, folder: Path) -> None:
        self.cert_file, self.key_file, self.ca_file = (folder / name for name in ("c.pem", "k.pem", "ca.pem"))
        AUTHORITY.cert_pem.write_to_path(str(self.ca_file))

    def renew(self, *, cert: bool = True, key: bool = True) -> str:
        """Write a new one, or a half of it; the certificate's SHA-256."""
        made = AUTHORITY.issue_cert("127.0.0.1", "localhost")
        chain = made.cert_chain_pems[0].bytes()
        if cert:
            self.cert_file.write_bytes(chain)
        if key:
            self.key_file.write_bytes(made.private_key_pem.bytes())
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(chain.decode())).hexdigest()

    def follow(self) -> FollowedCertificate:
        return FollowedCertificate(self.cert_file, self.key_file, FakeClock())


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Pair(tmp_path)


async def served(pair: Pair, port: int, name: str | None = None, *, came_from: str = "127.0.0.1") -> str:
    """The certificate that a new connection is shown; "" for `name` sends none, as for an address."""
    tls = client_context(pair.ca_file)
    _, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=tls, server_hostname=name or "127.0.0.1", local_addr=(came_from, 0)
    )
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    return hashlib.sha256(shown).hexdigest()


async def test_an_address_that_holds_its_handshakes_open_keeps_out_itself_alone(pair: Pair) -> None:
    pair.renew()
    api, tls = make_api(ApiServer().deps()), pair.follow().context
    async with serve_api(api, "127.0.0.1", 0, tls=tls) as address, AsyncExitStack() as stack:
        port = int(address.rpartition(":")[2])
        for _ in range(MAX_OF_ONE):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await served(pair, port)
        assert await served(pair, port, came_from="127.0.0.2")


@pytest.mark.parametrize("name", [None, "localhost"])
async def test_new_connections_get_the_new_certificate_and_open_ones_stay(
    pair: Pair, name: str | None
) -> None:
    first = pair.renew()
    certificate = pair.follow()
    api = make_api(ApiServer().deps())
    async with serve_api(api, "127.0.0.1", 0, tls=certificate.context) as address:
        assert address.startswith("https://127.0.0.1:")
        port = int(address.rpartition(":")[2])
        connector = TCPConnector(ssl=client_context(pair.ca_file), limit=1)
        async with ClientSession(connector=connector, headers=BEARER) as session:
            async with session.get(f"{address}/v1/system/stats") as reply:
                assert reply.status == 200
            assert await served(pair, port, name) == first
            second = pair.renew()
            await certificate.look()
            assert await served(pair, port, name) == second != first
            async with session.get(f"{address}/v1/system/stats") as reply:
                assert reply.status == 200


async def test_half_a_pair_and_none_change_nothing_until_the_other_half_is_there(pair: Pair) -> None:
    first = pair.renew()
    certificate = pair.follow()
    async with serve_api(make_api(ApiServer().deps()), "127.0.0.1", 0, tls=certificate.context) as address:
        port = int(address.rpartition(":")[2])
        pair.renew(key=False)
        await certificate.look()
        assert await served(pair, port) == first
        pair.cert_file.unlink()
        await certificate.look()
        assert await served(pair, port) == first
        last = pair.renew()
        await certificate.look()
        assert await served(pair, port) == last


async def test_a_connection_beyond_the_limit_is_told_so_over_tls_too(pair: Pair) -> None:
    pair.renew()
    tls, api = pair.follow().context, make_api(ApiServer().deps())
    async with serve_api(api, "127.0.0.1", 0, tls=tls, max_connections=1) as address:
        connector = TCPConnector(ssl=client_context(pair.ca_file))
        async with ClientSession(connector=connector) as session, session.get(f"{address}/livez") as held:
            assert held.status == 200
            async with (
                ClientSession(connector=TCPConnector(ssl=client_context(pair.ca_file))) as other,
                other.get(f"{address}/livez") as reply,
            ):
                assert reply.status == 429


async def test_who_has_taken_his_answer_over_tls_may_be_silent_afterwards(pair: Pair) -> None:
    pair.renew()
    tls, api = pair.follow().context, make_api(ApiServer().deps())
    async with serve_api(api, "127.0.0.1", 0, tls=tls, answer_deadline_s=0.05) as address:
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_context(pair.ca_file), server_hostname="127.0.0.1"
        )
        for _ in range(3):  # whatever a connection lived through before
            writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200")
            with pytest.raises(TimeoutError):  # nobody cuts it off
                await asyncio.wait_for(reader.read(1), 0.2)
        writer.close()


async def test_old_tls_and_plain_http_are_not_spoken(pair: Pair) -> None:
    pair.renew()
    tls = pair.follow().context
    assert tls.minimum_version is ssl.TLSVersion.TLSv1_2
    async with serve_api(make_api(ApiServer().deps()), "127.0.0.1", 0, tls=tls) as address:
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        assert b"HTTP" not in await asyncio.wait_for(reader.read(), 5)
        writer.close()


def test_what_is_no_pair_is_told_by_its_key(pair: Pair, tmp_path: Path) -> None:
    def found(cert: Path | None, key: Path | None) -> dict[str, str]:
        return {problem.where: problem.what for problem in find_pair_problems("api", cert, key)}

    pair.renew()
    assert found(None, None) == found(pair.cert_file, pair.key_file) == {}
    assert "together" in found(pair.cert_file, None)["api"]
    assert "together" in found(None, pair.key_file)["api"]
    assert "cannot be read" in found(pair.cert_file, tmp_path / "none")["api.key_file"]
    pair.renew(cert=False)
    assert "cannot be used with api.key_file" in found(pair.cert_file, pair.key_file)["api.cert_file"]
    locked = AUTHORITY.issue_cert("localhost").private_key_pem.bytes()
    pair.key_file.write_bytes(locked.replace(b"PRIVATE", b"ENCRYPTED PRIVATE"))
    assert "api.cert_file" in found(pair.cert_file, pair.key_file)
