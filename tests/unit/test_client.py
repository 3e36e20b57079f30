"""The client against a real HTTP server that answers by the models, and against one that misbehaves."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web
from aiohttp.test_utils import TestServer, unused_port

import releasehand
from releasehand import (
    ApiError,
    BadAnswerError,
    BusyError,
    Client,
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    NotFoundError,
    UnauthenticatedError,
    UnavailableError,
    WaitTimeoutError,
)
from releasehand.model import (
    BatchRollbackParams,
    DeployParams,
    DeployStatus,
    HealthStatus,
    InstanceRollbackParams,
    InstanceStatus,
    Period,
    Status,
)
from tests.fakes.api import START, TOKEN, FakeApi, StepClock, deployment, refusal, rollback, success, task

DEPLOY = DeployParams(
    service="shop",
    version="v2",
    instances=["web-1"],
    package_url="https://p.example/v2.tar.gz",
    deploy_id="d-1",
)
ROLL_ONE = InstanceRollbackParams(instance_id="web-1", target_version="v1")
ROLL_BATCH = BatchRollbackParams(service="shop", target_version="previous", instances=["web-1", "web-2"])
WORKING = deployment(Status.IN_PROGRESS, [task("web-1", Status.IN_PROGRESS, phase="downloading")])
DONE = deployment(Status.COMPLETED, [task("web-1")])


@dataclass
class Bench:
    """A client, the API it talks to, and the clock that its pauses run on."""

    api: FakeApi
    client: Client
    clock: StepClock
    url: str


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    api, clock = FakeApi(), StepClock()
    async with TestServer(api.app()) as server:
        url = str(server.make_url(""))
        async with Client(url, TOKEN, clock=clock) as client:
            yield Bench(api, client, clock, url)


Ask = Callable[[Client], Coroutine[Any, Any, Any]]
FUNCTIONS: dict[str, tuple[Ask, str, str, dict[str, str]]] = {
    "execute_deployment": (lambda c: c.execute_deployment(DEPLOY), "POST", "/v1/deployment", {}),
    "get_deployment_status": (
        lambda c: c.get_deployment_status("d-1", wait_s=20),
        "GET",
        "/v1/deployment/d-1",
        {"wait": "20s"},
    ),
    "cancel_deployment": (lambda c: c.cancel_deployment("d-1"), "POST", "/v1/deployment/d-1/cancel", {}),
    "get_service_instance_versions": (
        lambda c: c.get_service_instance_versions("shop", include_stopped=True),
        "GET",
        "/v1/service/shop/versions",
        {"include_stopped": "true"},
    ),
    "get_service_instances": (
        lambda c: c.get_service_instances(
            "shop", status=InstanceStatus.ERROR, version="v1+a", limit=2, offset=1
        ),
        "GET",
        "/v1/service/shop/instances",
        {"status": "error", "version": "v1+a", "limit": "2", "offset": "1"},
    ),
    "get_version_history": (
        lambda c: c.get_version_history("web-1", limit=7),
        "GET",
        "/v1/instance/web-1/version-history",
        {"limit": "7", "offset": "0"},
    ),
    "rollback_instance": (lambda c: c.rollback_instance(ROLL_ONE), "POST", "/v1/rollback/instance", {}),
    "rollback_batch": (lambda c: c.rollback_batch(ROLL_BATCH), "POST", "/v1/rollback/batch", {}),
    "get_rollback_status": (lambda c: c.get_rollback_status("rb-1"), "GET", "/v1/rollback/rb-1", {}),
    "cancel_rollback": (lambda c: c.cancel_rollback("rb-1"), "POST", "/v1/rollback/rb-1/cancel", {}),
    "get_system_health": (lambda c: c.get_system_health(), "GET", "/v1/system/health", {}),
    "get_system_stats": (
        lambda c: c.get_system_stats(Period.WEEK),
        "GET",
        "/v1/system/stats",
        {"period": "7d"},
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_each_function_asks_its_path_and_reads_the_whole_answer(bench: Bench, name: str) -> None:
    bench.api.deployments.append(DONE)
    bench.api.rollbacks.append(rollback(Status.COMPLETED, [task("web-1")]))
    ask, method, path, query = FUNCTIONS[name]
    answer = await ask(bench.client)
    [call] = bench.api.calls
    assert (call.method, call.path, call.query) == (method, path, query)
    assert answer.model_dump_json()
    assert call.headers["Authorization"] == f"Bearer {TOKEN}"


@pytest.mark.parametrize("name", FUNCTIONS)
async def test_each_function_is_repeated_after_a_cut_connection_and_a_503(bench: Bench, name: str) -> None:
    bench.api.deployments.append(DONE)
    bench.api.rollbacks.append(rollback(Status.COMPLETED, [task("web-1")]))
    bench.api.instead.extend([None, refusal(503, "unavailable", "starting", retryable=True)])
    await FUNCTIONS[name][0](bench.client)
    assert len(bench.api.calls) >= 3  # the HTTP library may repeat a GET once more by itself
    assert len(bench.clock.slept) in {1, 2}
    assert all(call.body == bench.api.calls[0].body for call in bench.api.calls)


@pytest.mark.parametrize("name", ["rollback_instance", "rollback_batch"])
async def test_a_rollback_whose_answer_was_lost_is_not_started_twice(bench: Bench, name: str) -> None:
    bench.api.cut_after = 1
    result = await FUNCTIONS[name][0](bench.client)
    keys = {call.headers["Idempotency-Key"] for call in bench.api.calls}
    assert len(bench.api.calls) == 2
    assert len(keys) == 1
    assert list(bench.api.started.values()) == [result.rollback_id]


async def test_two_rollbacks_have_keys_of_their_own_and_a_given_key_is_kept(bench: Bench) -> None:
    await bench.client.rollback_instance(ROLL_ONE)
    await bench.client.rollback_instance(ROLL_ONE)
    await bench.client.rollback_instance(ROLL_ONE, idempotency_key="mine")
    keys = [call.headers["Idempotency-Key"] for call in bench.api.calls]
    assert len(set(keys)) == 3
    assert keys[2] == "mine"


async def test_repeats_are_bounded_and_the_last_refusal_is_raised_whole(bench: Bench) -> None:
    bench.api.instead.extend(refusal(503, "unavailable", "migrating", retryable=True) for _ in range(9))
    with pytest.raises(UnavailableError, match="migrating") as caught:
        await bench.client.get_system_stats()
    assert len(bench.api.calls) == 5
    assert caught.value.request_id == "r-1"
    limits = [0.4, 0.8, 1.6, 3.2]
    assert all(0 <= pause <= limit for pause, limit in zip(bench.clock.slept, limits, strict=True))


async def test_a_pause_is_never_shorter_than_retry_after(bench: Bench) -> None:
    busy = refusal(429, "too_many_requests", "slow down", retryable=True)
    busy.headers["Retry-After"] = "7"
    bench.api.instead.append(busy)
    await bench.client.get_system_stats()
    [pause] = bench.clock.slept
    assert 7 <= pause <= 7.4


@pytest.mark.parametrize(
    ("status", "kind", "error"),
    [
        (400, "invalid_request", InvalidRequestError),
        (401, "unauthenticated", UnauthenticatedError),
        (403, "forbidden", ApiError),
        (404, "unknown_instance", NotFoundError),
        (409, "deploy_id_conflict", ConflictError),
        (409, "already_ended", ConflictError),
        (409, "instance_busy", BusyError),
        (413, "body_too_large", InvalidRequestError),
        (500, "internal_error", ApiError),
        (503, "unavailable", UnavailableError),  # `retryable` is false in it
        (418, "a_word_of_the_future", ApiError),
    ],
)
async def test_a_refusal_is_raised_once_as_its_class_with_all_that_was_said(
    bench: Bench, status: int, kind: str, error: type[ApiError]
) -> None:
    faults = [{"pointer": "/instances/0", "detail": "held by d-0", "colour": "new"}]
    bench.api.instead.append(refusal(status, kind, "no", errors=faults))
    with pytest.raises(ApiError) as caught:
        await bench.client.execute_deployment(DEPLOY)
    raised = caught.value
    assert type(raised) is error
    assert (raised.status, raised.type, raised.detail, raised.request_id) == (status, kind, "no", "r-1")
    assert [(fault.pointer, fault.detail) for fault in raised.errors] == [("/instances/0", "held by d-0")]
    assert "held by d-0" in str(raised)
    assert len(bench.api.calls) == 1


async def test_the_same_deploy_id_with_another_body_is_a_conflict(bench: Bench) -> None:
    await bench.client.execute_deployment(DEPLOY)
    assert bench.api.calls[0].body == DEPLOY.model_dump(mode="json")
    with pytest.raises(ConflictError, match="d-1 was used"):
        await bench.client.execute_deployment(DEPLOY.model_copy(update={"version": "v3"}))


@pytest.mark.parametrize("period", list(Period))
async def test_an_unhealthy_system_is_an_answer(bench: Bench, period: Period) -> None:
    bench.api.health = HealthStatus.UNHEALTHY
    health = await bench.client.get_system_health()
    assert health.status is HealthStatus.UNHEALTHY
    assert len(bench.api.calls) == 1
    assert (await bench.client.get_system_stats(period)).period is period


async def test_fields_of_the_future_are_ignored(bench: Bench) -> None:
    bench.api.instead.append(success(DONE, colour="green", later={"a": [1]}))
    assert await bench.client.get_deployment_status("d-1") == DONE


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (web.Response(text="<html>hello</html>", content_type="text/html"), "Invalid JSON"),
        (web.json_response({"code": 200, "message": "success", "data": {"x": 1}}), "data/deploy_id"),
        (web.json_response([]), "the body"),
        (web.Response(status=404, text="<html>nginx</html>"), "not from a releasehand controller"),
        (web.Response(status=302, headers={"Location": "/login"}), "redirects"),
        (web.json_response({"error": "no"}, status=500), "not from a releasehand controller"),
        (web.Response(body=b"[" * 100_000), "JSON"),
    ],
)
async def test_an_answer_that_is_not_the_controllers_is_named_as_such(
    bench: Bench, answer: web.Response, reason: str
) -> None:
    bench.api.instead.append(answer)
    with pytest.raises(BadAnswerError, match=reason) as caught:
        await bench.client.get_deployment_status("d-1")
    assert len(caught.value.excerpt) <= 200
    assert len(bench.api.calls) == 1


async def test_a_proxys_502_counts_as_unavailable(bench: Bench) -> None:
    bench.api.instead.extend(web.Response(status=502, text="<html>bad gateway") for _ in range(5))
    with pytest.raises(UnavailableError, match="bad gateway") as caught:
        await bench.client.get_system_stats()
    assert caught.value.type == ""


async def test_a_refused_connection_is_told_after_bounded_tries() -> None:
    clock, url = StepClock(), f"http://127.0.0.1:{unused_port()}"
    async with Client(url, TOKEN, clock=clock) as client:
        with pytest.raises(ConnectionFailedError, match="connection refused") as caught:
            await client.get_system_stats()
    assert caught.value.url == url
    assert len(clock.slept) == 4


async def test_an_answer_that_does_not_come_in_time_is_a_failed_connection() -> None:
    heard = asyncio.Event()

    async def hang(_: web.Request) -> web.Response:
        await heard.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/system/stats", hang)
    async with TestServer(app) as server, Client(str(server.make_url("")), TOKEN, timeout_s=0.05) as client:
        with pytest.raises(ConnectionFailedError, match=r"no answer within 0\.05 s"):
            await client.get_system_stats()
        heard.set()


async def test_a_certificate_is_trusted_by_the_given_authority_alone(tmp_path: Path) -> None:
    authority, clock = trustme.CA(), StepClock()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    server = TestServer(FakeApi().app(), host="localhost", scheme="https")
    await server.start_server(ssl=tls)
    url = str(server.make_url(""))
    try:
        async with Client(url, TOKEN, ca_file=tmp_path / "ca.pem", clock=clock) as client:
            assert (await client.get_system_stats()).instances.total == 3
        async with Client(url, TOKEN, clock=clock) as client:
            with pytest.raises(ConnectionFailedError, match="certificate is not trusted") as caught:
                await client.get_system_stats()
        assert not caught.value.retryable
        assert clock.slept == []
    finally:
        await server.close()


@pytest.mark.parametrize("name", ["", ".", ".."])
async def test_a_name_that_would_change_the_path_is_refused(bench: Bench, name: str) -> None:
    with pytest.raises(ValueError, match="no name"):
        await bench.client.get_deployment_status(name)
    assert bench.api.calls == []


async def test_a_name_with_a_slash_stays_one_segment(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        await bench.client.get_deployment_status("../system/health?x#y")
    assert bench.api.calls[0].path == "/v1/deployment/../system/health?x#y"


@pytest.mark.parametrize("url", ["ftp://a", "localhost:80", "", "http://", "http://u:p@a", "http://a?x=1"])
def test_a_base_url_that_cannot_work_is_refused_at_once(url: str) -> None:
    with pytest.raises(ValueError, match="controller's address"):
        Client(url, TOKEN)


@pytest.mark.parametrize("token", ["", "secret\r\nX: 1", "secret word", "secrét"])
def test_a_bad_token_is_refused_without_showing_it(token: str) -> None:
    with pytest.raises(ValueError, match="a token is") as caught:
        Client("http://a", token)
    assert "secr" not in str(caught.value)


async def test_a_client_that_is_not_open_says_how_to_open_it() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await Client("http://127.0.0.1:9", TOKEN).get_system_stats()


async def test_waiting_returns_the_final_status_by_long_polls(bench: Bench) -> None:
    bench.api.deployments.extend([WORKING, WORKING, DONE])
    assert await bench.client.wait_for_deployment("d-1", timeout_s=600) == DONE
    assert [call.query.get("wait") for call in bench.api.calls] == [None, "30s", "30s"]


async def test_a_watcher_sees_each_change_once_and_asks_often(bench: Bench) -> None:
    bench.api.deployments.extend([WORKING, WORKING, DONE])
    seen: list[DeployStatus] = []
    await bench.client.wait_for_deployment("d-1", on_change=seen.append)
    assert seen == [WORKING, DONE]
    assert [call.query.get("wait") for call in bench.api.calls] == [None, "1s", "1s"]


async def test_a_server_without_long_polls_is_not_asked_in_a_busy_loop(bench: Bench) -> None:
    bench.api.deployments.extend([WORKING] * 10 + [DONE])
    await bench.client.wait_for_deployment("d-1")
    assert bench.clock.slept == [1.0] * 9


async def test_waiting_ends_at_its_timeout_with_the_last_status(bench: Bench) -> None:
    bench.api.deployments.append(WORKING)
    with pytest.raises(WaitTimeoutError, match="5 s") as caught:
        await bench.client.wait_for_deployment("d-1", timeout_s=5)
    assert caught.value.last_status == WORKING
    assert bench.clock.at == 5.0


async def test_waiting_outlives_a_controller_that_is_restarted(bench: Bench) -> None:
    steps = [WORKING, DONE]
    bench.api.rollbacks.extend(
        rollback(step.status, step.instances).model_copy(update={"started_at": START}) for step in steps
    )
    down = [refusal(503, "unavailable", "starting", retryable=True) for _ in range(12)]

    def go_down_once() -> None:
        bench.api.instead.extend(down)
        down.clear()

    bench.api.on_status = go_down_once
    told: list[Exception] = []
    status = await bench.client.wait_for_rollback("rb-1", timeout_s=600, on_trouble=told.append)
    assert status.status is Status.COMPLETED
    assert len(told) == 2  # two rounds of five tries failed, the third came through
    assert bench.api.calls[-1].query == {}  # not as a long poll: too many of those may be the trouble


async def test_waiting_gives_up_on_a_controller_that_stays_away(bench: Bench) -> None:
    bench.api.deployments.append(WORKING)
    away = [refusal(503, "unavailable", "away", retryable=True) for _ in range(5_000)]
    bench.api.on_status = lambda: bench.api.instead.extend(away)
    with pytest.raises(UnavailableError, match="away"):
        await bench.client.wait_for_deployment("d-1")
    assert 300 <= bench.clock.at <= 330


async def test_an_unknown_deployment_is_not_waited_for(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        await bench.client.wait_for_deployment("d-9", timeout_s=600)
    assert len(bench.api.calls) == 1


def test_the_reference_names_every_function_and_error() -> None:
    reference = (Path(__file__).parents[2] / "docs" / "reference" / "client.md").read_text()
    functions = [name for name in dir(Client) if not name.startswith("_")]
    assert set(FUNCTIONS) | {"wait_for_deployment", "wait_for_rollback"} < set(functions)
    assert [name for name in (*functions, *releasehand.__all__) if name not in reference] == []
