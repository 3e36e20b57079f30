"""What reaches the API's port and is no HTTP gets the envelope like everything else."""

import asyncio
import json

import pytest

from controller.api import make_api, serve_api
from tests.fakes.api_server import ApiServer

UNREADABLE = {
    "no method": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    "broken header": b"GET /v1/system/health HTTP/1.1\r\nHost: a\r\nbad header\r\n\r\n",
    "endless line": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
    "endless header": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "html wanted": b"GARBAGE\r\nAccept: text/html\r\n\r\n",
}


async def exchange(host: str, port: int, sent: bytes) -> tuple[str, str]:
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(sent)
    async with asyncio.timeout(10):
        answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


@pytest.mark.parametrize("sent", UNREADABLE.values(), ids=UNREADABLE)
async def test_what_is_no_http_is_refused_in_the_envelope(sent: bytes) -> None:
    async with serve_api(make_api(ApiServer().deps()), "127.0.0.1", 0) as address:
        head, body = await exchange("127.0.0.1", int(address.rpartition(":")[2]), sent)
    envelope = json.loads(body)
    assert " 400 " in head.splitlines()[0]
    assert "application/json" in head
    assert (envelope["code"], envelope["error"]["type"]) == (400, "invalid_request")
    assert envelope["error"]["request_id"] in head
    assert "aiohttp" not in head


async def test_a_running_call_is_answered_before_the_server_is_gone() -> None:
    server = ApiServer()
    async with serve_api(make_api(server.deps()), "127.0.0.1", 0) as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))
        writer.write(b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
        line = await reader.readline()
    assert line == b"HTTP/1.1 200 OK\r\n"
    assert await reader.read() != b""
    writer.close()
