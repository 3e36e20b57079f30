"""Lists, logs and the past over HTTP: what reaches the store, and which times are times."""

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from controller.api.instants import TIME_PATTERN, Instant
from controller.core.lists import AgentFilter, InstanceFilter, LogPage, OperationFilter, Page
from releasehand.model import InstanceStatus, OperationKind, Presence, RollbackType, Status
from tests.fakes.api_server import ApiClient, ApiServer
from tests.fakes.clock import START, FakeClock

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
FIRST = Page(100, 0)
INSTANT: TypeAdapter[datetime] = TypeAdapter(Instant)


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer(clock=FakeClock(), history_kept=timedelta(days=10)).start()
    yield client
    await client.http.close()


ASKED: list[tuple[str, tuple[object, ...]]] = [
    ("/v1/deployment", ("list_deployments", OperationFilter(), FIRST)),
    ("/v1/deployment?limit=0&service=&status=", ("list_deployments", OperationFilter(), FIRST)),
    ("/v1/deployment?limit=1000&offset=7", ("list_deployments", OperationFilter(), Page(1000, 7))),
    (
        "/v1/deployment?service=web&status=failed&since=2026-01-01T12:00:00Z&until=2026-01-01T14:00:00%2B01:00",
        (
            "list_deployments",
            OperationFilter("web", Status.FAILED, NOON, NOON + timedelta(hours=1)),
            FIRST,
        ),
    ),
    (
        "/v1/rollback?rollback_type=batch&status=completed",
        (
            "list_rollbacks",
            OperationFilter(status=Status.COMPLETED, rollback_type=RollbackType.BATCH),
            FIRST,
        ),
    ),
    ("/v1/service?name=we.B_-", ("list_services", "we.B_-", FIRST, frozenset())),
    (
        "/v1/instance?service=web&agent_id=host-1&status=error&version=v1",
        ("list_instances", InstanceFilter("web", "host-1", InstanceStatus.ERROR, "v1"), FIRST),
    ),
    ("/v1/agent?status=offline&name=db", ("list_agents", AgentFilter(Presence.OFFLINE, "db"), FIRST)),
    (
        "/v1/service/user-service/versions?at=2026-01-01T13:00:00 01:00&include_stopped=true",
        ("service_versions_at", "user-service", NOON, True),
    ),
]


@pytest.mark.parametrize(("path", "call"), ASKED, ids=[path for path, _ in ASKED])
async def test_what_is_asked_reaches_the_store(api: ApiClient, path: str, call: tuple[object, ...]) -> None:
    api.server.clock.advance(43_200)  # type: ignore[attr-defined]
    reply = await api.get(path)
    assert reply.status == 200, reply.text
    assert call in api.server.store.calls


async def test_a_log_is_asked_by_page_and_instance(api: ApiClient) -> None:
    reply = await api.get("/v1/rollback/none/events?after=7&limit=9&instance_id=a")
    assert (reply.status, reply.json["error"]["type"]) == (404, "unknown_rollback")
    assert api.server.store.calls == [("release_log", OperationKind.ROLLBACK, "none", LogPage(7, 9, "a"))]


@pytest.mark.parametrize(
    ("path", "pointer"),
    [
        ("/v1/deployment?status=running", "status"),
        ("/v1/deployment?since=2026-02-30T00:00:00Z", "since"),
        ("/v1/deployment?since=yesterday", "since"),
        ("/v1/deployment?until=2026-01-01T00:00:00", "until"),
        ("/v1/deployment?limit=1001", "limit"),
        ("/v1/deployment?rollback_type=batch", "rollback_type"),
        ("/v1/rollback?rollback_type=many", "rollback_type"),
        ("/v1/service?name=a%25", "name"),
        ("/v1/instance?service=..", "service"),
        ("/v1/agent?status=gone", "status"),
        ("/v1/deployment/d/events?after=-1", "after"),
        ("/v1/deployment/d/events?limit=1001", "limit"),
        ("/v1/service/user-service/versions?at=now", "at"),
    ],
)
async def test_what_is_no_filter_is_refused_by_name(api: ApiClient, path: str, pointer: str) -> None:
    reply = await api.get(path)
    assert (reply.status, [one["pointer"] for one in reply.json["error"]["errors"]]) == (400, [pointer])
    assert api.server.store.calls == []


async def test_a_time_before_what_is_kept_of_the_history_is_refused(api: ApiClient) -> None:
    since = START - timedelta(days=10)
    path = "/v1/service/user-service/versions"
    kept = await api.get(path, params={"at": since.isoformat()})
    assert (kept.status, kept.json["data"]["at"]) == (200, "2025-12-22T00:00:00.000Z")
    gone = await api.get(path, params={"at": (since - timedelta(seconds=1)).isoformat()})
    [problem] = gone.json["error"]["errors"]
    assert (gone.status, problem["pointer"]) == (400, "at")
    assert problem["detail"] == "history is kept from 2025-12-22T00:00:00.000Z on"


ZONES = st.integers(-1_439, 1_439).map(
    lambda minutes: f"{'+-'[minutes < 0]}{abs(minutes) // 60:02}:{abs(minutes) % 60:02}"
)


@given(when=st.datetimes(), digits=st.integers(0, 9), zone=st.just("Z") | ZONES)
def test_every_time_of_rfc_3339_is_read_as_what_it_is(when: datetime, digits: int, zone: str) -> None:
    fraction = f".{when.microsecond:06}000"[: digits + 1] if digits else ""
    text = f"{when.strftime('%Y').zfill(4)}-{when:%m-%dT%H:%M:%S}{fraction}{zone}"
    assert re.search(TIME_PATTERN, text)
    read = INSTANT.validate_python(text)
    assert read.tzinfo is UTC
    sign = -1 if zone.startswith("-") else 1
    offset = timedelta() if zone == "Z" else sign * timedelta(hours=int(zone[1:3]), minutes=int(zone[4:]))
    kept = when.replace(microsecond=int(f"{when.microsecond:06}"[:digits].ljust(6, "0")) if digits else 0)
    try:
        assert read == (kept - offset).replace(tzinfo=UTC)
    except OverflowError:
        assert read in {datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)}


@given(
    text=st.from_regex(
        r"\A[0-9]{4}-[0-9]{2}-[0-3][0-9]T[0-2][0-9]:[0-9]{2}:[0-9]{2}(\.[0-9]{0,3})?(Z|[+-][0-9]{2}:?[0-9]{2})\Z"
    )
)
def test_a_time_is_read_exactly_where_the_document_s_pattern_says_so(text: str) -> None:
    try:
        INSTANT.validate_python(text)
        is_read = True
    except ValidationError:
        is_read = False
    assert is_read is bool(re.search(TIME_PATTERN.replace("$", r"\Z"), text))


@pytest.mark.parametrize(
    "bad",
    [
        "2026-02-29T00:00:00Z",
        "1900-02-29T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01 00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:60Z",
        "2026-01-01T00:00:00Z\n",
        "20260101T000000Z",
        "२०२६-01-01T00:00:00Z",
    ],
)
def test_what_is_no_time_is_refused(bad: str) -> None:
    with pytest.raises(ValidationError):
        INSTANT.validate_python(bad)


@pytest.mark.parametrize("good", ["2024-02-29T00:00:00Z", "2000-02-29T23:59:59.999999999-23:59"])
def test_leap_days_are_days(good: str) -> None:
    assert INSTANT.validate_python(good).tzinfo is UTC
