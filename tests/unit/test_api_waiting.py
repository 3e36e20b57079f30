"""`?wait=` and the notices behind it: no change is missed, no waiter is kept too long, not too many wait."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest

from controller.api.query import wait_seconds
from controller.bulletin import Bulletin
from controller.core.acceptance import InstancePage
from controller.core.written import Written
from releasehand.model import DeployStatus, OperationKind, Status
from shared.clock import SystemClock
from tests.fakes.api_server import DEPLOYMENT, INSTANCE_ROLLBACK, ApiClient, ApiServer
from tests.fakes.api_store import FakeStore

DEPLOYMENT_KIND, ROLLBACK_KIND = OperationKind.DEPLOYMENT, OperationKind.ROLLBACK
PATHS = {DEPLOYMENT_KIND: "/v1/deployment/deploy-1", ROLLBACK_KIND: "/v1/rollback/rollback-1"}


class InstantClock(SystemClock):
    """Pauses cost no time."""

    async def sleep(self, seconds: float) -> None:
        await super().sleep(0)


@dataclass
class WatchedStore(FakeStore):
    """Tells when a status was read; `ends_at_read` ends the operation behind that reading's back."""

    was_read: asyncio.Event = field(default_factory=asyncio.Event)
    bulletin: Bulletin | None = None

    async def deploy_status(self, deploy_id: str, page: InstancePage) -> Written[DeployStatus]:
        status = await super().deploy_status(deploy_id, page)
        if self.bulletin is not None and status.answer.status is Status.PENDING:
            self.end(DEPLOYMENT_KIND, deploy_id)
            self.bulletin.publish(DEPLOYMENT_KIND, deploy_id)
        self.was_read.set()
        return status

    async def read_again(self) -> None:
        self.was_read.clear()
        await self.was_read.wait()


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer(store=WatchedStore(), clock=InstantClock(), max_waiters=1).start()
    yield client
    await client.http.close()


def watched(api: ApiClient) -> WatchedStore:
    store = api.server.store
    assert isinstance(store, WatchedStore)
    return store


async def start(api: ApiClient, kind: OperationKind) -> str:
    """Start an operation and return the path of its status."""
    if kind is DEPLOYMENT_KIND:
        await api.post("/v1/deployment", DEPLOYMENT)
    else:
        await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK)
    return PATHS[kind]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", 0),
        ("0s", 0),
        ("1ms", 0.001),
        ("500ms", 0.5),
        ("60000ms", 60),
        ("1.5s", 1.5),
        ("30s", 30),
        ("60s", 60),
        ("1m", 60),
        ("1m0s", 60),
    ],
)
def test_a_wait_is_read_as_seconds(text: str, seconds: float) -> None:
    assert wait_seconds(text) == seconds


@pytest.mark.parametrize("kind", list(OperationKind))
async def test_an_ended_operation_is_answered_at_once(api: ApiClient, kind: OperationKind) -> None:
    path = await start(api, kind)
    api.server.store.end(*next(iter(api.server.store.operations)))
    reply = await api.get(f"{path}?wait=60s")
    assert reply.json["data"]["status"] == "completed"


@pytest.mark.parametrize("kind", list(OperationKind))
async def test_the_present_status_is_answered_when_the_time_is_over(
    api: ApiClient, kind: OperationKind
) -> None:
    path = await start(api, kind)
    reply = await api.get(f"{path}?wait=20ms")
    assert (reply.status, reply.json["data"]["status"]) == (200, "pending")
    assert len(api.server.bulletin) == 0


async def test_a_waiting_call_is_answered_when_the_operation_ends(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.get(f"{path}?wait=60s"))
        await watched(api).read_again()
        api.server.bulletin.publish(DEPLOYMENT_KIND, "deploy-1")
        await watched(api).read_again()  # it looked, saw no end and goes on waiting
        assert not waiting.done()
        api.server.store.end(DEPLOYMENT_KIND, "deploy-1", Status.FAILED)
        api.server.bulletin.publish(DEPLOYMENT_KIND, "deploy-1")
    assert waiting.result().json["data"]["status"] == "failed"


async def test_an_end_between_reading_and_waiting_is_not_missed(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    watched(api).bulletin = api.server.bulletin
    reply = await api.get(f"{path}?wait=60s")
    assert reply.json["data"]["status"] == "completed"


async def test_a_cancel_wakes_those_who_wait_for_the_end(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.get(f"{path}?wait=60s"))
        await watched(api).read_again()
        await api.post(f"{path}/cancel")
    assert waiting.result().json["data"]["status"] == "cancelled"


async def test_news_of_another_operation_wakes_nobody() -> None:
    bulletin = Bulletin()
    with bulletin.subscribe(DEPLOYMENT_KIND, "a") as news:
        bulletin.publish(DEPLOYMENT_KIND, "b")
        bulletin.publish(ROLLBACK_KIND, "a")
        assert not await news.wait(0)
        bulletin.publish(DEPLOYMENT_KIND, "a")
        bulletin.publish(DEPLOYMENT_KIND, "a")
        assert await news.wait(0)
        assert not await news.wait(0)


async def test_a_wait_without_reading_ends_with_the_next_notice_or_the_time() -> None:
    bulletin = Bulletin()
    assert not await bulletin.wait(DEPLOYMENT_KIND, "a", 0)
    bulletin.close()
    assert await bulletin.wait(DEPLOYMENT_KIND, "a", 60)
    assert len(bulletin) == 0


async def test_too_many_waiting_calls_are_sent_away(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.get(f"{path}?wait=60s"))
        await watched(api).read_again()
        reply = await api.get(f"{path}?wait=1s")
        assert (reply.status, reply.json["error"]["type"]) == (429, "too_many_requests")
        assert reply.json["error"]["retryable"]
        assert reply.headers["Retry-After"] == "1"
        assert (await api.get(path)).status == 200  # asking without waiting is always possible
        api.server.store.end(DEPLOYMENT_KIND, "deploy-1")
        api.server.bulletin.publish(DEPLOYMENT_KIND, "deploy-1")
    assert waiting.result().status == 200


async def test_an_unknown_operation_is_told_at_once_and_nobody_is_left_waiting(api: ApiClient) -> None:
    reply = await api.get("/v1/deployment/nothing?wait=60s")
    assert reply.status == 404
    assert len(api.server.bulletin) == 0


async def test_stopping_lets_waiting_calls_go_with_the_present_status(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(api.get(f"{path}?wait=60s"))
        await watched(api).read_again()
        await api.http.app.shutdown()
    assert waiting.result().json["data"]["status"] == "pending"
    assert (await api.get(f"{path}?wait=60s")).json["data"]["status"] == "pending"


async def test_an_operation_that_force_ended_lets_its_waiters_go(api: ApiClient) -> None:
    path = await start(api, DEPLOYMENT_KIND)
    store = watched(api)
    waiting = asyncio.create_task(api.get(f"{path}?wait=60s"))
    await store.read_again()
    store.force_ends = [(DEPLOYMENT_KIND, "deploy-1")]
    assert (await api.post("/v1/rollback/instance", INSTANCE_ROLLBACK | {"force": True})).status == 200
    assert (await waiting).json["data"]["status"] == "cancelled"
