"""Release logs as server-sent events: what is sent, when it ends, and what one reader may take."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any

import pytest
from aiohttp import ClientError, ClientResponse
from hypothesis import given
from hypothesis import strategies as st

from controller.api.deps import stream_places
from controller.api.stream import PAGE, asks_for_stream
from controller.core.refusals import StoreUnavailableError
from releasehand.model import EventKind, OperationKind, ReleaseEvent, Status
from tests.fakes.api_operation import NOON, Operation
from tests.fakes.api_server import BEARER, DEPLOYMENT, ApiClient, ApiServer
from tests.fakes.event_stream import Sent, read_events

URL = "/v1/deployment/deploy-1/events"
STREAM = {"Accept": "text/event-stream"}


def an_event(number: int, **said: Any) -> ReleaseEvent:
    values: dict[str, Any] = {
        "id": number,
        "at": NOON,
        "kind": EventKind.PHASE_ENDED,
        "instance_id": "instance-1",
        "agent_id": "agent-1",
        "generation": 1,
        "attempt": 1,
        "phase": "downloading",
        "outcome": "ok",
        "duration_s": 1.5,
        "code": "",
        "message": "",
        "log_tail": "",
    }
    return ReleaseEvent.model_validate(values | said)


class Bench:
    """An API with one deployment, whose log a test writes."""

    def __init__(self, server: ApiServer, client: ApiClient) -> None:
        self.server, self.client = server, client

    @property
    def operation(self) -> Operation:
        return self.server.store.operations[OperationKind.DEPLOYMENT, "deploy-1"]

    def write(self, *events: ReleaseEvent) -> None:
        self.operation.log.extend(events)
        self.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")

    def end(self, status: Status = Status.COMPLETED) -> None:
        self.operation.status = status
        self.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")

    @asynccontextmanager
    async def stream(self, url: str = URL, **headers: str) -> AsyncIterator[tuple[ClientResponse, Any]]:
        said = {**BEARER, **STREAM, **{name.replace("_", "-"): text for name, text in headers.items()}}
        async with self.client.http.get(url, headers=said) as response:
            yield response, read_events(response)

    async def read_whole(self, url: str = URL, **headers: str) -> list[Sent]:
        async with self.stream(url, **headers) as (_, events):
            return [sent async for sent in events if sent.event]


Make = Callable[..., Any]


@pytest.fixture
async def make() -> AsyncIterator[Make]:
    async with AsyncExitStack() as stack:

        async def bench(**settings: Any) -> Bench:
            server = ApiServer(**settings)
            client = await server.start()
            stack.push_async_callback(client.http.close)
            await client.post("/v1/deployment", DEPLOYMENT)
            return Bench(server, client)

        yield bench


async def test_an_ended_log_is_sent_whole_and_closed_with_its_status(make: Make) -> None:
    bench = await make()
    bench.write(*(an_event(number) for number in range(1, 2 * PAGE + 10)))
    bench.end(Status.FAILED)
    async with bench.stream() as (response, events):
        assert (response.status, response.content_type) == (200, "text/event-stream")
        assert response.headers["X-Request-Id"]
        assert response.headers["Cache-Control"] == "no-store"
        told = [sent async for sent in events if sent.event]
    *log, last = told
    assert [int(sent.id) for sent in log] == list(range(1, 2 * PAGE + 10))
    assert {sent.event for sent in log} == {"phase_ended"}
    assert json.loads(log[0].data) == json.loads(an_event(1).model_dump_json())
    end = {"deploy_id": "deploy-1", "rollback_id": "", "status": "failed"}
    assert (last.event, last.id, json.loads(last.data)) == ("end_of_log", "", end)


async def test_an_open_log_comes_as_it_is_written(make: Make) -> None:
    bench = await make()
    bench.write(an_event(1))
    async with bench.stream() as (_, events):
        told = [sent async for sent in _until(events, "1")]
        bench.write(an_event(5))
        told += [sent async for sent in _until(events, "5")]
        bench.write(an_event(6))
        bench.end()
        told += [sent async for sent in events]
    assert [(sent.event, sent.id) for sent in told if sent.event] == [
        ("phase_ended", "1"),
        ("phase_ended", "5"),
        ("phase_ended", "6"),
        ("end_of_log", ""),
    ]


async def _until(events: AsyncIterator[Sent], last_id: str) -> AsyncIterator[Sent]:
    async for sent in events:
        yield sent
        if sent.id == last_id:
            return


@pytest.mark.parametrize(
    ("url", "headers", "ids"),
    [
        (URL, {"Last_Event_ID": "2"}, ["3", "4"]),
        (URL + "?after=3", {}, ["4"]),
        (URL + "?after=1", {"Last_Event_ID": "3"}, ["4"]),
        (URL, {"Last_Event_ID": "4"}, []),
        (URL, {"Last_Event_ID": "999999999999999999"}, []),
        (URL + "?instance_id=instance-2", {}, ["4"]),
    ],
)
async def test_a_reader_goes_on_after_its_last_event(
    make: Make, url: str, headers: dict[str, str], ids: list[str]
) -> None:
    bench = await make()
    bench.write(an_event(1), an_event(2), an_event(3), an_event(4, instance_id="instance-2"))
    bench.end()
    told = await bench.read_whole(url, **headers)
    assert [sent.id for sent in told] == [*ids, ""]


async def test_pages_take_the_last_event_id_too(make: Make) -> None:
    bench = await make()
    bench.write(*(an_event(number) for number in range(1, 5)))
    reply = await bench.client.get(URL + "?limit=2", headers={"Last-Event-ID": "1"})
    assert [event["id"] for event in reply.json["data"]["events"]] == [2, 3]
    assert (reply.json["data"]["next_after"], reply.json["data"]["has_more"]) == (3, True)


@pytest.mark.parametrize("last", ["x", "-1", "1.0", "1" * 19, "१"])
async def test_an_id_that_is_no_id_is_refused_before_anything_is_sent(make: Make, last: str) -> None:
    bench = await make()
    for accept in ("text/event-stream", "application/json"):
        reply = await bench.client.get(URL, headers={"Accept": accept, "Last-Event-ID": last})
        assert (reply.status, reply.json["error"]["errors"][0]["pointer"]) == (400, "Last-Event-ID")


async def test_what_is_wrong_with_a_stream_is_told_in_the_envelope(make: Make) -> None:
    bench = await make()
    unknown = await bench.client.get("/v1/deployment/nothing/events", headers=STREAM)
    assert (unknown.status, unknown.json["error"]["type"]) == (404, "unknown_deployment")
    stranger = await bench.client.call_without_token("GET", URL, headers=STREAM)
    assert (stranger.status, stranger.json["error"]["type"]) == (401, "unauthenticated")
    bench.server.store.raises = StoreUnavailableError("gone")
    assert (await bench.client.get(URL, headers=STREAM)).status == 503
    assert (len(bench.server.streams), len(bench.server.bulletin)) == (0, 0)


async def test_a_silent_stream_is_kept_alive_and_looks_again(make: Make) -> None:
    bench = await make(keep_alive_s=0.01)
    async with bench.stream() as (_, events):
        first = [await anext(events) for _ in range(3)]
        bench.operation.log.append(an_event(9))  # without a notice: it was lost
        later = [sent async for sent in _until(events, "9")]
    assert [sent.comments for sent in first[1:]] == [["keep-alive"]] * 2
    assert later[-1].id == "9"


async def test_only_so_many_streams_are_open_and_a_closed_one_makes_room(make: Make) -> None:
    bench = await make(streams=stream_places(3, 2), keep_alive_s=0.01)
    operator = {**STREAM, "Authorization": "Bearer a-token-of-the-operator"}
    async with bench.stream() as (_, one), bench.stream() as (_, two):
        await anext(one)
        await anext(two)
        refused = await bench.client.get(URL, headers=STREAM)
        assert (refused.status, refused.json["error"]["type"]) == (429, "too_many_requests")
        assert "'scheduler' has 2 streams" in refused.json["error"]["detail"]
        assert refused.headers["Retry-After"]
        assert (await bench.client.get(URL)).status == 200
        async with bench.client.http.get(URL, headers=operator) as third:
            assert third.status == 200
            full = await bench.client.get(URL, headers=operator)
            assert "3 streams are open" in full.json["error"]["detail"]
    await _wait_until_left(bench)
    async with bench.stream() as (again, _):
        assert again.status == 200


async def _wait_until_left(bench: Bench) -> None:
    """The keep-alives tell the controller that the readers are gone."""
    async with asyncio.timeout(10):
        while len(bench.server.streams):
            await asyncio.to_thread(lambda: None)


async def test_a_reader_that_takes_nothing_is_cut_off_and_nobody_waits_for_it(make: Make) -> None:
    bench = await make(slow_reader_s=0.2)
    big = [an_event(number, kind=EventKind.LOG_TAIL, log_tail="x" * 65_536) for number in range(1, 400)]
    bench.write(*big)
    bench.end()
    async with bench.stream() as (slow, _):
        assert slow.status == 200  # and takes nothing more
        await _wait_until_left(bench)
        taken = [sent.id async for sent in _cut(slow)]
    assert 0 < len(taken) < len(big)
    quick = await bench.read_whole(Last_Event_ID=taken[-1])
    assert [sent.id for sent in quick] == [str(number) for number in range(int(taken[-1]) + 1, 400)] + [""]


async def _cut(response: ClientResponse) -> AsyncIterator[Sent]:
    """What had been sent when the connection was cut."""
    with suppress(ClientError, ConnectionError):
        async for sent in read_events(response):
            if sent.id:
                yield sent


async def test_waiting_calls_and_streams_do_not_take_each_other_s_places(make: Make) -> None:
    bench = await make(max_waiters=1, keep_alive_s=0.01)
    async with bench.stream() as (_, one), bench.stream() as (_, two):
        await anext(one)
        await anext(two)
        bench.operation.status = Status.COMPLETED
        assert (await bench.client.get("/v1/deployment/deploy-1?wait=1s")).status == 200


async def test_a_stopping_controller_lets_its_readers_go_without_an_end(make: Make) -> None:
    bench = await make()
    bench.write(an_event(1))
    async with bench.stream() as (_, events):
        told = [sent async for sent in _until(events, "1")]
        bench.server.bulletin.close()
        told += [sent async for sent in events]
    assert [sent.event for sent in told if sent.event] == ["phase_ended"]


async def test_a_database_that_went_away_ends_the_stream_without_an_end(make: Make) -> None:
    bench = await make()
    bench.write(an_event(1))
    async with bench.stream() as (_, events):
        assert [sent.id async for sent in _until(events, "1")][-1] == "1"
        bench.server.store.raises = StoreUnavailableError("gone")
        bench.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")
        assert [sent async for sent in events] == []


async def test_a_bug_in_the_middle_cuts_the_stream(make: Make) -> None:
    bench = await make()
    bench.write(an_event(1))
    async with bench.stream() as (response, events):
        assert [sent.id async for sent in _until(events, "1")][-1] == "1"
        bench.server.store.raises = KeyError("a bug")
        bench.server.bulletin.publish(OperationKind.DEPLOYMENT, "deploy-1")
        with pytest.raises((ClientError, ConnectionError)):
            await response.content.read()
    assert len(bench.server.streams) == 0


async def test_head_tells_the_media_type_and_sends_nothing(make: Make) -> None:
    bench = await make()
    reply = await bench.client.call("HEAD", URL, headers=STREAM)
    assert (reply.status, reply.text) == (200, "")
    assert reply.headers["Content-Type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        ("text/event-stream", True),
        ("TEXT/Event-Stream; charset=utf-8", True),
        ("text/event-stream, */*", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("text/event-stream;q=0.5, application/json", False),
        ("text/event-stream;q=0", False),
        ("", False),
        ("*/*", False),
        ("text/*", False),
        ("application/json", False),
    ],
)
def test_a_stream_is_for_who_asks_for_one(accept: str, wanted: bool) -> None:
    assert asks_for_stream(accept) is wanted


@given(st.text(max_size=60))
def test_no_accept_header_is_too_strange_to_be_read(accept: str) -> None:
    assert isinstance(asks_for_stream(accept), bool)
