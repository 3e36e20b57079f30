"""How many TLS handshakes may be under way at a port, all together and from one network."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trustme

from controller.handshakes import BoundedContext, Handshakes, listen
from controller.pki.handshake import TellingContext
from shared.clock import SystemClock
from shared.tls import client_context

LIMIT = 3
OF_ONE = 2


@pytest.fixture
def ca(tmp_path: Path) -> Path:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "hub.pem")
    issued.private_key_pem.write_to_path(tmp_path / "hub.key")
    return tmp_path / "ca.pem"


@asynccontextmanager
async def listening(
    ca: Path, deadline_s: float, kind: type[BoundedContext] = TellingContext
) -> AsyncIterator[int]:
    """A server that says hello; its port."""
    context = kind(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(ca.with_name("hub.pem"), ca.with_name("hub.key"))
    context.handshakes = Handshakes(SystemClock(), limit=LIMIT, of_one=OF_ONE)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await writer.drain()
        await reader.read()
        writer.close()

    [sock] = await listen("127.0.0.1", 0)
    server = await asyncio.start_server(greet, sock=sock, ssl=context, ssl_handshake_timeout=deadline_s)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def greeting(port: int, ca: Path, stack: AsyncExitStack, address: str = "127.0.0.1") -> bytes:
    """What a client is told that shakes hands; the connection stays open. Raises OSError."""
    opened = asyncio.open_connection("127.0.0.1", port, ssl=client_context(ca), local_addr=(address, 0))
    reader, writer = await opened
    stack.callback(writer.close)
    return await reader.read(5)


async def say_nothing(port: int, address: str) -> asyncio.StreamWriter:
    return (await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0)))[1]


async def until_greeted(port: int, ca: Path, stack: AsyncExitStack) -> bytes:
    async with asyncio.timeout(20):
        while True:
            try:
                return await greeting(port, ca, stack)
            except OSError:
                await SystemClock().sleep(0.02)


async def test_those_that_are_done_do_not_count(ca: Path) -> None:
    async with AsyncExitStack() as stack, listening(ca, 10) as port:
        told = [await greeting(port, ca, stack) for _ in range(2 * LIMIT)]
    assert told == [b"hello"] * (2 * LIMIT)


@pytest.mark.parametrize("end", ["they hang up", "their time is over"])
async def test_beyond_the_bound_a_connection_is_closed_until_the_silent_ones_are_gone(
    ca: Path, end: str
) -> None:
    deadline_s = 1.5 if end == "their time is over" else 30.0
    async with AsyncExitStack() as stack, listening(ca, deadline_s) as port:
        silent = [await say_nothing(port, f"127.0.0.{number + 2}") for number in range(LIMIT)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await greeting(port, ca, stack)
        if end == "they hang up":
            for writer in silent:
                writer.close()
        assert await until_greeted(port, ca, stack) == b"hello"
        for writer in silent:
            writer.close()


async def test_one_network_takes_its_share_and_no_more(ca: Path) -> None:
    async with AsyncExitStack() as stack, listening(ca, 30) as port:
        silent = [await say_nothing(port, "127.0.0.1") for _ in range(OF_ONE)]
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await greeting(port, ca, stack)
        assert await greeting(port, ca, stack, "127.0.0.2") == b"hello"
        silent.pop().close()
        assert await until_greeted(port, ca, stack) == b"hello"
        for writer in silent:
            writer.close()


async def test_handshakes_that_fail_count_no_more_when_they_have(ca: Path) -> None:
    async with AsyncExitStack() as stack, listening(ca, 30, BoundedContext) as port:
        for _ in range(2 * OF_ONE):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            assert await reader.read(2) == b""
            writer.close()
        assert await until_greeted(port, ca, stack) == b"hello"


async def test_a_host_is_listened_on_at_each_of_its_addresses(tmp_path: Path) -> None:
    found = await asyncio.get_running_loop().getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
    sockets = await listen("localhost", 0)
    assert {one.getsockname()[0] for one in sockets} == {address[0] for *_, address in found}
    for one in sockets:
        one.close()


async def test_a_port_that_is_taken_is_told_with_its_address() -> None:
    [taken] = await listen("127.0.0.1", 0)
    taken.listen()
    port = taken.getsockname()[1]
    with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1 port {port}: address already in use"):
        await listen("127.0.0.1", port)
    taken.close()
