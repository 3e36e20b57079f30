"""Who opens connections to the agents' port and says nothing keeps nobody out but himself."""

import asyncio
import socket
import ssl
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from controller.handshakes import MAX_OF_ONE
from shared.tls import client_context
from tests.fakes.clock import FakeClock
from tests.fakes.controller import running_controller


async def test_an_address_that_holds_its_handshakes_open_keeps_out_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running_controller(tmp_path, FakeClock()) as controller, AsyncExitStack() as stack:
        hub = urlsplit(controller.hub)
        tls = client_context(controller.folder / "pki" / "ca.pem")

        async def shake_hands(address: str) -> None:
            opened = asyncio.open_connection(hub.hostname, hub.port, local_addr=(address, 0), ssl=tls)
            _, writer = await opened
            writer.transport.abort()

        await shake_hands("127.0.0.1")
        for _ in range(MAX_OF_ONE):
            stack.enter_context(socket.create_connection((hub.hostname, hub.port)))
        for _ in range(100):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await shake_hands("127.0.0.1")
        await shake_hands("127.0.0.2")
        refused = [record for record in caplog.records if "a connection was refused" in record.getMessage()]
        assert 0 < len(refused) < 50, "a flood of connections is none of lines"
