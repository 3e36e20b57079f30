"""The client's lists and logs, against the real API over a store in memory."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest

from controller.api.deps import stream_places
from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from controller.core.refusals import StoreUnavailableError
from releasehand import Client, NotFoundError, UnavailableError
from releasehand.model import (
    BatchRollbackParams,
    DeployParams,
    EventKind,
    InstanceRollbackParams,
    InstanceStatus,
    OperationKind,
    Presence,
    ReleaseEvent,
    RetryFailedParams,
    RollbackType,
    Status,
    Verdict,
)
from tests.fakes.api import StepClock
from tests.fakes.api_operation import Operation
from tests.fakes.api_server import DEPLOYMENT, TOKEN, ApiClient, ApiServer

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
IN_BERLIN = NOON.astimezone(timezone(timedelta(hours=1)))
LOG_TAIL = "zwölf 版本\n" * 8_000


@dataclass
class Mending(StepClock):
    """What is away comes back while the client sleeps, if `mend` says so."""

    mend: Callable[[], None] = lambda: None

    async def sleep(self, seconds: float) -> None:
        self.mend()
        await super().sleep(seconds)


@dataclass
class Bench:
    """A client, and the API that it talks to."""

    server: ApiServer
    api: ApiClient
    client: Client
    clock: Mending

    def newest(self) -> tuple[object, ...]:
        """What the store was asked last."""
        return self.server.store.calls[-1]

    @property
    def operation(self) -> Operation:
        return self.server.store.operations[OperationKind.DEPLOYMENT, "deploy-1"]

    def write(self, *ids: int, **said: Any) -> None:
        values: dict[str, Any] = {
            "at": NOON,
            "kind": EventKind.LOG_TAIL,
            "instance_id": "instance-1",
            "agent_id": "agent-1",
            "generation": 1,
            "attempt": 1,
            "phase": "downloading",
            "outcome": "",
            "duration_s": None,
            "code": "",
            "message": "",
            "log_tail": LOG_TAIL,
        }
        self.operation.log += [ReleaseEvent.model_validate(values | {"id": number} | said) for number in ids]
        self.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")

    def end(self) -> None:
        self.operation.status = Status.COMPLETED
        self.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    server, clock = ApiServer(streams=stream_places(2, 2)), Mending()
    api = await server.start()
    await api.post("/v1/deployment", DEPLOYMENT)
    async with Client(str(api.http.make_url("")), TOKEN, clock=clock) as client:
        yield Bench(server, api, client, clock)
    await api.http.close()


async def test_lists_are_asked_for_with_their_filters(bench: Bench) -> None:
    client, page = bench.client, Page(7, 3)
    span = {"since": IN_BERLIN, "until": NOON + timedelta(hours=1)}
    wanted = OperationFilter("web", Status.FAILED, NOON, NOON + timedelta(hours=1))
    await client.list_deployments(service="web", status=Status.FAILED, limit=7, offset=3, **span)
    assert bench.newest() == ("list_deployments", wanted, page)
    await client.list_rollbacks(rollback_type=RollbackType.BATCH, limit=7, offset=3)
    single = OperationFilter(rollback_type=RollbackType.BATCH)
    assert bench.newest() == ("list_rollbacks", single, page)
    await client.list_services(name="We", limit=7, offset=3)
    assert bench.newest() == ("list_services", "We", page, frozenset())
    await client.list_instances(service="web", agent_id="h", status=InstanceStatus.ERROR, version="v1+a")
    whole = InstanceFilter("web", "h", InstanceStatus.ERROR, "v1+a")
    assert bench.newest() == ("list_instances", whole, Page())
    await client.list_agents(status=Presence.OFFLINE, name="db")
    assert bench.newest() == ("list_agents", AgentFilter(Presence.OFFLINE, "db"), Page())
    for nothing in (await client.list_deployments(), await client.list_services()):
        assert (nothing.total, nothing.limit, nothing.offset) == (0, 100, 0)


async def test_the_past_is_asked_for_in_utc(bench: Bench) -> None:
    told = await bench.client.get_service_instance_versions("user-service", at=IN_BERLIN)
    assert told.at == NOON
    assert ("service_versions_at", "user-service", NOON, False) in bench.server.store.calls


async def test_a_page_of_a_log_is_asked_for(bench: Bench) -> None:
    bench.write(1, 2, 3)
    log = await bench.client.get_deployment_events("deploy-1", after=1, limit=1, instance_id="instance-1")
    assert ([event.id for event in log.events], log.next_after, log.has_more) == ([2], 2, True)
    assert log.events[0].log_tail == LOG_TAIL
    with pytest.raises(NotFoundError):
        await bench.client.get_rollback_events("nothing")
    asked = ("release_log", OperationKind.ROLLBACK, "nothing", LogPage(0, 100, ""))
    assert bench.newest() == asked


async def test_a_log_is_followed_to_its_end_however_long_its_lines(bench: Bench) -> None:
    bench.write(1, 2)
    found: list[ReleaseEvent] = []
    async for event in bench.client.follow_deployment("deploy-1"):
        found.append(event)
        if event.id == 2:
            bench.write(3)
            bench.end()
    assert [event.id for event in found] == [1, 2, 3]
    assert found[-1].log_tail == LOG_TAIL


async def test_following_goes_on_by_itself_after_a_cut(bench: Bench) -> None:
    bench.write(1)
    found: list[int] = []
    async with asyncio.timeout(20):
        async for event in bench.client.follow_deployment("deploy-1", instance_id="instance-1"):
            found.append(event.id)
            if event.id == 1:
                bench.server.store.raises = StoreUnavailableError("away")  # it ends the stream, and refuses
                bench.write(2, instance_id="instance-2")
                bench.write(3)
                bench.clock.mend = lambda: setattr(bench.server.store, "raises", None)
            else:
                bench.end()
    assert found == [1, 3]
    after = [call[-1].after for call in bench.server.store.calls if isinstance(call[-1], LogPage)]
    assert after[-1] >= 1


async def test_following_what_is_not_there_is_refused_at_once(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        async for _ in bench.client.follow_rollback("nothing"):
            pass


async def test_following_gives_up_on_a_controller_that_stays_away(bench: Bench) -> None:
    bench.server.store.raises = StoreUnavailableError("away")
    with pytest.raises(UnavailableError):
        async for _ in bench.client.follow_deployment("deploy-1"):
            pass
    assert bench.clock.monotonic() >= 300


async def test_instances_are_retired_and_moved_and_what_failed_is_tried_again(bench: Bench) -> None:
    assert (await bench.client.retire_instance("instance-1")).instance_id == "instance-1"
    bench.end()
    moved = await bench.client.move_instance("instance-2", "agent-2")
    assert (moved.instance_id, moved.agent_id) == ("instance-2", "agent-2")
    bench.operation.status = Status.FAILED
    again = await bench.client.retry_failed("deploy-1", RetryFailedParams(deploy_id="deploy-2"))
    assert again.deploy_id == "deploy-2"


@pytest.mark.parametrize(
    "params",
    [
        DeployParams.model_validate(DEPLOYMENT | {"deploy_id": "deploy-2"}),
        InstanceRollbackParams(instance_id="instance-1", target_version="v1.0.0"),
        BatchRollbackParams(service="user-service", target_version="v1.0.0", instances=["instance-1"]),
    ],
    ids=lambda params: type(params).__name__,
)
async def test_a_dry_run_tells_what_the_call_would_do_and_starts_nothing(bench: Bench, params: Any) -> None:
    before = dict(bench.server.store.operations)
    told = await bench.client.dry_run(params, idempotency_key="key-1")
    assert told.verdict is Verdict.REFUSED  # deploy-1 holds it
    assert told.instances[0].instance_id == "instance-1"
    assert bench.newest()[:2] == ("foresee", params)
    assert bench.server.store.operations == before
