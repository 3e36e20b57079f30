"""Tokens through the API: making, listing, revoking; long calls that end with their token; what is noted."""

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from controller.api.uses import MAX_ADDRESSES, Uses
from controller.core.allowance import peer_group
from controller.core.refusals import StoreUnavailableError
from releasehand.model import AuditAction, AuditOutcome, ErrorType, OperationKind, Scope
from shared.clock import SystemClock
from tests.fakes.api_access import FakeAccess
from tests.fakes.api_server import DEPLOYMENT, ApiClient, ApiServer, Reply
from tests.fakes.clock import FakeClock
from tests.fakes.waiting import until

CI = {"name": "ci", "scopes": ["deploy:read"], "services": ["user-service"]}
R, W, T = Scope.DEPLOY_READ, Scope.DEPLOY_WRITE, Scope.TOKEN_ADMIN


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer().start()
    yield client
    await client.http.close()


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def error_of(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["type"]


async def test_a_token_is_shown_once_and_works_at_once(api: ApiClient) -> None:
    made = (await api.post("/v1/token", CI)).json["data"]
    assert made["token"].startswith("rht_")
    assert (made["name"], made["scopes"], made["services"]) == ("ci", ["deploy:read"], ["user-service"])
    listed = await api.get("/v1/token", headers=bearer(made["token"]))
    assert error_of(listed) == (403, ErrorType.FORBIDDEN)
    versions = await api.get("/v1/service/user-service/versions", headers=bearer(made["token"]))
    assert versions.status == 200
    assert made["token"] not in (await api.get("/v1/token")).text


async def test_a_revoked_token_is_refused_at_the_next_call(api: ApiClient) -> None:
    token = (await api.post("/v1/token", CI)).json["data"]["token"]
    assert (await api.call("DELETE", "/v1/token/ci")).json["data"]["status"] == "revoked"
    reply = await api.get("/v1/service/user-service/versions", headers=bearer(token))
    assert error_of(reply) == (401, ErrorType.UNAUTHENTICATED)


@pytest.mark.parametrize(
    "wish",
    [
        {"scopes": ["deploy:write"]},
        {"scopes": ["deploy:read", "agent:admin"]},
        {"services": []},
        {"services": ["user-service", "other"]},
    ],
)
async def test_nobody_gives_more_than_they_have(api: ApiClient, wish: dict[str, list[str]]) -> None:
    token = api.server.store.give("chief", R, T, services=["user-service"])
    good = await api.post("/v1/token", CI | {"name": "good"}, headers=bearer(token))
    assert good.status == 200
    reply = await api.post("/v1/token", CI | wish, headers=bearer(token))
    assert error_of(reply) == (403, ErrorType.FORBIDDEN)
    assert len(api.server.store.tokens) == 2


@pytest.mark.parametrize(("ttl", "status"), [(0, 403), (7_200, 403), (3_000, 200)])
async def test_no_token_outlives_the_one_that_made_it(api: ApiClient, ttl: int, status: int) -> None:
    ends_at = api.server.clock.now() + timedelta(hours=1)
    token = api.server.store.give("chief", R, T, expires_at=ends_at)
    reply = await api.post("/v1/token", CI | {"ttl": ttl}, headers=bearer(token))
    assert reply.status == status
    assert len(api.server.store.tokens) == (2 if status == 200 else 1)


async def test_names_in_use_are_refused_and_unknown_ones_not_found(api: ApiClient) -> None:
    await api.post("/v1/token", CI)
    for taken in ("ci", "scheduler"):  # one of the database, and one of the configuration
        reply = await api.post("/v1/token", CI | {"name": taken})
        assert error_of(reply) == (409, ErrorType.TOKEN_EXISTS)
    assert error_of(await api.call("DELETE", "/v1/token/nobody")) == (404, ErrorType.UNKNOWN_TOKEN)


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": []},
        {"scopes": ["deploy:read", "deploy:read"]},
        {"scopes": ["deploy"]},
        {"services": ["../x"]},
        {"services": ["a", "a"]},
        {"ttl": -1},
        {"name": ""},
    ],
)
async def test_a_token_that_means_nothing_is_refused(api: ApiClient, wrong: dict[str, object]) -> None:
    assert error_of(await api.post("/v1/token", CI | wrong)) == (400, ErrorType.INVALID_REQUEST)


# what stays open for long


async def test_a_wait_ends_when_its_token_is_revoked(api: ApiClient) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    token = api.server.store.give("watcher", R)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(api.get("/v1/deployment/deploy-1?wait=60s", headers=bearer(token)))
        await until(lambda: len(api.server.bulletin))
        await api.server.leases.look()
        assert not waiting.done()
        api.server.store.take_away(token)
        await api.server.leases.look()
        reply = await asyncio.wait_for(waiting, 5)
    assert error_of(reply) == (401, ErrorType.UNAUTHENTICATED)
    assert "during this call" in reply.json["error"]["detail"]


async def test_a_stream_ends_when_its_token_is_revoked(api: ApiClient) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    token = api.server.store.give("watcher", R)
    headers = bearer(token) | {"Accept": "text/event-stream"}
    async with api.http.get("/v1/deployment/deploy-1/events", headers=headers) as stream:
        assert b"retry" in await stream.content.readline()
        api.server.store.take_away(token)
        await api.server.leases.look()
        rest = await asyncio.wait_for(stream.content.read(), 5)
    assert b"end_of_log" not in rest
    api.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")
    assert len(api.server.bulletin) == 0


async def test_calls_of_other_tokens_stay_open_and_a_silent_database_ends_none(api: ApiClient) -> None:
    gone, stays = api.server.store.give("gone", R), api.server.store.give("stays", R)
    leases = api.server.leases
    async with leases.hold("id-of-stays"), leases.hold(""):
        api.server.store.take_away(gone)
        await leases.look()
        api.server.store.take_away(stays)
        api.server.store.raises = StoreUnavailableError("away")
        with pytest.raises(StoreUnavailableError):
            await leases.look()
        await SystemClock().sleep(0)  # a cancellation would come here


# what is written down later


async def test_the_use_of_a_token_is_written_once_a_minute(api: ApiClient) -> None:
    store, clock = FakeAccess(), FakeClock()
    uses = Uses(store, clock)
    told = []
    for _ in range(5):
        uses.used("one", "192.0.2.7")
        uses.used("", "192.0.2.7")
        await uses.write()
        told.append(store.uses["one"][0])
        clock.advance(20)
    assert list(store.uses) == ["one"]
    assert told[0] == told[1] == told[2] != told[3] == told[4]


async def test_failures_are_told_at_once_and_then_once_a_minute_with_their_number() -> None:
    store, clock = FakeAccess(), FakeClock()
    uses = Uses(store, clock)
    for _ in range(3):
        uses.failed("192.0.2.9", "r-1", "no caller has this token")
    await uses.write()
    for _ in range(4):
        uses.failed("192.0.2.9", "r-2", "no caller has this token")
        clock.advance(10)
        await uses.write()
    assert [entry.objects["attempts"] for entry in store.entries] == [3]
    clock.advance(20)
    await uses.write()
    await uses.write()
    assert [entry.objects["attempts"] for entry in store.entries] == [3, 4]
    last = store.entries[-1]
    assert (last.action, last.outcome) == (AuditAction.AUTHENTICATE, AuditOutcome.REFUSED)
    assert (last.actor.address, last.actor.request_id) == ("192.0.2.9", "r-2")


async def test_very_many_addresses_are_counted_together() -> None:
    store = FakeAccess()
    uses = Uses(store, FakeClock())
    for number in range(MAX_ADDRESSES + 50):
        uses.failed(f"192.0.{number // 256}.{number % 256}", "r", "no caller has this token")
    await uses.write()
    assert len(store.entries) == MAX_ADDRESSES + 1
    assert store.entries[-1].objects["attempts"] == 50
    assert "several addresses" in store.entries[-1].message


async def test_what_could_not_be_written_is_written_the_next_time() -> None:
    store = FakeAccess(raises=StoreUnavailableError("away"))
    uses = Uses(store, FakeClock())
    uses.used("one", "192.0.2.7")
    uses.failed("192.0.2.9", "r", "no caller has this token")
    with pytest.raises(StoreUnavailableError):
        await uses.write()
    await uses.finish()
    store.raises = None
    await uses.finish()
    assert (list(store.uses), len(store.entries)) == (["one"], 1)


@pytest.mark.parametrize(
    ("address", "group"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
        ("unix:", "unix:"),
    ],
)
def test_addresses_of_one_customer_are_one(address: str, group: str) -> None:
    assert peer_group(address) == group
