"""Nobody can take more than their part of the API: calls, connections, the time that a client takes."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast

import pytest
from aiohttp import web

from controller.api import RateLimits, make_api, serve_api
from controller.api.body import read_body
from controller.api.errors import ApiError
from releasehand.model import ErrorType
from shared.clock import SystemClock
from tests.fakes.api_server import BEARER, DEPLOYMENT, ApiClient, ApiServer
from tests.fakes.clock import FakeClock

OPERATOR = {"Authorization": "Bearer a-token-of-the-operator"}
STRANGER = {"Authorization": "Bearer a-token-of-nobody"}
STATS, HEALTH = "/v1/system/stats", "/v1/system/health"


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    """Three calls at once, then one every two seconds."""
    client = await ApiServer(clock=FakeClock(), rates=RateLimits(per_s=0.5, burst=3)).start()
    yield client
    await client.http.close()


async def statuses(api: ApiClient, path: str, times: int, headers: dict[str, str] | None = None) -> list[int]:
    return [(await api.get(path, headers=headers)).status for _ in range(times)]


async def test_a_caller_that_calls_too_often_is_told_when_to_come_back(api: ApiClient) -> None:
    assert await statuses(api, STATS, 4) == [200, 200, 200, 429]
    reply = await api.get(STATS)
    assert (reply.json["error"]["type"], reply.json["error"]["retryable"]) == ("too_many_requests", True)
    assert reply.headers["Retry-After"] == "2"
    clock = api.server.clock
    assert isinstance(clock, FakeClock)
    clock.advance(2)
    assert await statuses(api, STATS, 2) == [200, 429]


async def test_one_caller_uses_up_nothing_of_another_s(api: ApiClient) -> None:
    assert (await statuses(api, STATS, 4))[-1] == 429
    assert await statuses(api, STATS, 1, OPERATOR) == [200]
    assert await statuses(api, HEALTH, 1) == [200]


async def test_guessing_tokens_is_slowed_and_holds_up_nobody_with_a_token(api: ApiClient) -> None:
    """Ten at once, and then one a second: much less than a caller may."""
    assert await statuses(api, STATS, 11, STRANGER) == [401] * 10 + [429]
    reply = await api.get(STATS, headers=STRANGER)
    assert (reply.status, reply.headers["Retry-After"]) == (429, "1")
    assert await statuses(api, STATS, 1) == [200]
    clock = api.server.clock
    assert isinstance(clock, FakeClock)
    clock.advance(1)
    assert await statuses(api, STATS, 2, STRANGER) == [401, 429]


async def test_a_call_beyond_the_rate_is_refused_before_its_body_is_read(api: ApiClient) -> None:
    await statuses(api, STATS, 3)
    reply = await api.post("/v1/deployment", DEPLOYMENT)
    assert reply.status == 429
    assert api.server.store.operations == {}


# connections


async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", int(address.rpartition(":")[2]))


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: a", f"Authorization: {BEARER['Authorization']}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


async def test_a_connection_beyond_the_limit_is_told_so_and_closed() -> None:
    async with serve_api(make_api(ApiServer().deps()), "127.0.0.1", 0, max_connections=2) as address:
        held = [await connect(address) for _ in range(2)]
        for reader, writer in held:
            writer.write(request("/livez"))
            assert b"200" in await reader.readline()
        reader, writer = await connect(address)
        writer.write(request(STATS))
        async with asyncio.timeout(5):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"Retry-After: 1" in head
        assert json.loads(body)["error"]["type"] == ErrorType.TOO_MANY_REQUESTS
        held[0][1].close()
        await held[0][1].wait_closed()
        writer.close()
        async with asyncio.timeout(5):
            while b" 200 " not in await ask_once(address):
                await SystemClock().sleep(0.02)
        held[1][1].close()


async def ask_once(address: str) -> bytes:
    reader, writer = await connect(address)
    writer.write(request("/livez", "Connection: close"))
    line = await reader.readline()
    writer.close()
    return line


class StuckRequest:
    """A request whose body does not come."""

    content_length = 100

    async def read(self) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError("nothing sets it")


async def test_a_body_that_does_not_come_is_not_waited_for() -> None:
    with pytest.raises(ApiError) as refused:
        await read_body(cast("web.Request", StuckRequest()), 0.01)
    assert refused.value.type is ErrorType.REQUEST_TIMEOUT


async def test_a_client_that_does_not_take_its_answer_is_cut_off() -> None:
    server = ApiServer()
    server.store.services = {"user-service": {f"instance-{n}": "v1.0.0" for n in range(60_000)}}
    api = make_api(server.deps())
    async with serve_api(api, "127.0.0.1", 0, max_connections=1, answer_deadline_s=0.2) as address:
        _, writer = await connect(address)
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request("/v1/service/user-service/versions"))
        assert b" 429 " in await ask_once(address)  # the only connection is taken
        async with asyncio.timeout(10):
            while b" 200 " not in await ask_once(address):
                await SystemClock().sleep(0.05)
        writer.close()
