"""Every refusal and every failure looks the same: envelope, type, request id, and nothing of the inside."""

import json
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controller.api.errors import FAULTS
from controller.api.routes import ROUTES
from controller.core.refusals import RefusalError, StoreUnavailableError
from releasehand.model import ErrorEnvelope, ErrorType, OperationKind
from tests.fakes.api_server import BATCH_ROLLBACK, DEPLOYMENT, INSTANCE_ROLLBACK, ApiClient, ApiServer, Reply

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "errors.md"
GUARDED = [(route.method, re.sub(r"{\w+}", "x", route.path)) for route in ROUTES if not route.open]


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer().start()
    yield client
    await client.http.close()


def assert_error(reply: Reply, error_type: ErrorType) -> ErrorEnvelope:
    """The whole envelope, in agreement with the table and the headers."""
    envelope = ErrorEnvelope.model_validate_json(reply.text)
    assert set(reply.json) == {"code", "message", "data", "error"}
    assert envelope.error.type is error_type
    assert reply.status == envelope.code == FAULTS[error_type].status
    assert envelope.error.retryable is FAULTS[error_type].retryable
    assert reply.headers["X-Request-Id"] == envelope.error.request_id
    assert reply.headers["Content-Type"].startswith("application/json")
    assert ("Retry-After" in reply.headers) is (reply.status in {429, 503})
    return envelope


def test_every_error_type_has_a_status() -> None:
    assert set(FAULTS) == set(ErrorType)


def test_the_reference_lists_every_error_type_as_it_is() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+) \| (yes|no) \| (.+) \| (.+) \|$", REFERENCE.read_text(), re.MULTILINE
    )
    told = {name: (int(status), retryable == "yes") for name, status, retryable, _, _ in rows}
    assert told == {str(name): (fault.status, fault.retryable) for name, fault in FAULTS.items()}
    assert len(rows) == len(told)


def test_what_may_be_repeated_is_429_503_and_what_waits_for_an_end() -> None:
    retryable = {name for name, fault in FAULTS.items() if fault.retryable}
    assert retryable == {name for name, fault in FAULTS.items() if fault.status in {429, 503}} | {
        ErrorType.INSTANCE_BUSY,
        ErrorType.NOT_ENDED,
    }


@pytest.mark.parametrize(
    ("method", "path", "body", "error_type", "pointers"),
    [
        ("GET", "/v1/deployment/x", None, ErrorType.UNKNOWN_DEPLOYMENT, ["deploy_id"]),
        ("POST", "/v1/deployment/x/cancel", None, ErrorType.UNKNOWN_DEPLOYMENT, ["deploy_id"]),
        ("GET", "/v1/rollback/x", None, ErrorType.UNKNOWN_ROLLBACK, ["rollback_id"]),
        ("POST", "/v1/rollback/x/cancel", None, ErrorType.UNKNOWN_ROLLBACK, ["rollback_id"]),
        ("GET", "/v1/service/x/versions", None, ErrorType.UNKNOWN_SERVICE, ["service"]),
        ("GET", "/v1/service/x/instances", None, ErrorType.UNKNOWN_SERVICE, ["service"]),
        ("GET", "/v1/instance/x/version-history", None, ErrorType.UNKNOWN_INSTANCE, ["instance_id"]),
        ("POST", "/v1/deployment", DEPLOYMENT | {"service": "x"}, ErrorType.UNKNOWN_SERVICE, ["/service"]),
        (
            "POST",
            "/v1/rollback/batch",
            BATCH_ROLLBACK | {"service": "x"},
            ErrorType.UNKNOWN_SERVICE,
            ["/service"],
        ),
        (
            "POST",
            "/v1/deployment",
            DEPLOYMENT | {"instances": ["x", "instance-1", "y"]},
            ErrorType.UNKNOWN_INSTANCE,
            ["/instances/0", "/instances/2"],
        ),
        (
            "POST",
            "/v1/rollback/instance",
            INSTANCE_ROLLBACK | {"instance_id": "x"},
            ErrorType.UNKNOWN_INSTANCE,
            ["/instance_id"],
        ),
    ],
)
async def test_what_is_unknown_is_named_and_pointed_at(
    api: ApiClient, method: str, path: str, body: Any, error_type: ErrorType, pointers: list[str]
) -> None:
    reply = await api.call(method, path, **({} if body is None else {"json": body}))
    error = assert_error(reply, error_type).error
    assert [one.pointer for one in error.errors] == pointers
    assert "'x'" in error.detail
    assert "'x'" in error.errors[0].detail
    assert api.server.woken == []


async def test_a_busy_instance_names_the_operation_that_holds_it(api: ApiClient) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    for path, body, pointer in (
        (
            "/v1/deployment",
            DEPLOYMENT | {"deploy_id": "d2", "instances": ["instance-3", "instance-2"]},
            "/instances/1",
        ),
        ("/v1/rollback/instance", INSTANCE_ROLLBACK, "/instance_id"),
    ):
        error = assert_error(await api.post(path, body), ErrorType.INSTANCE_BUSY).error
        assert error.errors[0].pointer == pointer
        assert "deployment 'deploy-1'" in error.errors[0].detail


async def test_a_deploy_id_with_another_body_names_the_field(api: ApiClient) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    reply = await api.post("/v1/deployment", DEPLOYMENT | {"version": "v9"})
    error = assert_error(reply, ErrorType.DEPLOY_ID_CONFLICT).error
    assert [one.pointer for one in error.errors] == ["/version"]


async def test_a_cancel_after_the_end_is_refused(api: ApiClient) -> None:
    await api.post("/v1/deployment", DEPLOYMENT)
    api.server.store.end(OperationKind.DEPLOYMENT, "deploy-1")
    assert_error(await api.post("/v1/deployment/deploy-1/cancel"), ErrorType.ALREADY_ENDED)


NO_TOKENS = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer  "},
    {"Authorization": "Bearer a-token-of-nobody"},
    {"Authorization": "Basic YS10b2tlbi1vZi10aGUtc2NoZWR1bGVy"},
    {"Authorization": "a-token-of-the-scheduler"},
    {"Authorization": "Bearer \u00e9"},
]


@pytest.mark.parametrize(("method", "path"), GUARDED)
async def test_a_call_without_a_known_token_is_refused_before_anything_else(
    api: ApiClient, method: str, path: str
) -> None:
    for headers in NO_TOKENS:
        reply = await api.call_without_token(method, f"{path}?nonsense=1", headers=headers)
        assert_error(reply, ErrorType.UNAUTHENTICATED)
        assert reply.headers["WWW-Authenticate"].startswith("Bearer ")
    assert api.server.store.calls == []


async def test_the_scheme_of_a_token_is_read_in_any_case(api: ApiClient) -> None:
    headers = {"Authorization": "bearer a-token-of-the-operator"}
    assert (await api.get("/v1/system/stats", headers=headers)).status == 200


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
async def test_a_path_that_is_not_there_is_told_in_the_envelope(api: ApiClient, method: str) -> None:
    for path in ("/", "/v1", "/v1/", "/v1/deployment/", "/v1/deployment/a/b", "/v2/x", "/x%FF", "//"):
        assert_error(await api.call(method, path), ErrorType.NOT_FOUND)


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)
async def test_another_method_is_refused_with_the_possible_ones(api: ApiClient, route: Any) -> None:
    possible: set[str] = {other.method for other in ROUTES if other.path == route.path}
    possible |= {"HEAD"} if "GET" in possible else set()
    for method in {"PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "QUERY"} - possible:
        reply = await api.call(method, re.sub(r"{\w+}", "x", route.path))
        assert_error(reply, ErrorType.METHOD_NOT_ALLOWED)
        assert reply.headers["Allow"] == ", ".join(sorted(possible))


async def test_the_words_of_the_two_rollbacks_are_no_rollback_ids(api: ApiClient) -> None:
    for path in ("/v1/rollback/instance", "/v1/rollback/batch"):
        assert_error(await api.get(path), ErrorType.METHOD_NOT_ALLOWED)


@pytest.mark.parametrize(
    ("path", "error_type"), [("/v1/system/stats", "expectation_failed"), ("/v1/x", "not_found")]
)
async def test_an_unknown_expectation_is_answered_in_the_envelope(
    api: ApiClient, path: str, error_type: str
) -> None:
    reply = await api.get(path, headers={"Expect": "miracles"})
    assert_error(reply, ErrorType(error_type))


async def test_a_client_that_waits_for_100_continue_gets_it(api: ApiClient) -> None:
    reply = await api.call("POST", "/v1/deployment", json=DEPLOYMENT, expect100=True)
    assert reply.status == 200


@pytest.mark.parametrize("given", ["a", "7c9e6679-f1a4", "x" * 128, "team/a:7@b=c+d"])
async def test_a_sane_request_id_is_taken_over(api: ApiClient, given: str) -> None:
    for path in ("/v1/system/stats", "/v1/nothing", "/livez"):
        assert (await api.get(path, headers={"X-Request-Id": given})).headers["X-Request-Id"] == given


@pytest.mark.parametrize("given", ["", "a b", "x" * 129, 'a"b', "<b>"])
async def test_another_request_id_is_replaced(api: ApiClient, given: str) -> None:
    made = [
        (await api.get("/v1/system/stats", headers={"X-Request-Id": given})).headers["X-Request-Id"]
        for _ in range(2)
    ]
    assert all(re.fullmatch("[0-9a-f]{32}", one) for one in made)
    assert made[0] != made[1]


async def test_a_bug_is_logged_once_and_told_without_details(
    api: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    api.server.store.raises = ZeroDivisionError("secret of the inside")
    reply = await api.get("/v1/system/stats")
    error = assert_error(reply, ErrorType.INTERNAL_ERROR).error
    assert "secret" not in reply.text
    crashes = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert [record.__dict__["fields"]["request_id"] for record in crashes] == [error.request_id]
    assert crashes[0].exc_info is not None


async def test_a_refusal_that_no_type_is_listed_for_is_a_bug(api: ApiClient) -> None:
    api.server.store.raises = RefusalError("new and unknown")
    assert_error(await api.get("/v1/system/stats"), ErrorType.INTERNAL_ERROR)


async def test_a_store_that_does_not_answer_is_503_without_its_words(api: ApiClient) -> None:
    api.server.store.raises = StoreUnavailableError("cannot open /var/lib/secret.db")
    reply = await api.post("/v1/deployment", DEPLOYMENT)
    assert_error(reply, ErrorType.UNAVAILABLE)
    assert "secret" not in reply.text
    assert api.server.woken == []


async def test_one_line_is_logged_for_each_request_without_query_or_token(
    api: ApiClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await api.get("/v1/system/stats?period=7d", headers={"X-Request-Id": "r1"})
    [line] = [record for record in caplog.records if record.getMessage() == "request answered"]
    fields = line.__dict__["fields"]
    assert fields.pop("duration_ms") >= 0
    assert fields == {
        "request_id": "r1",
        "method": "GET",
        "path": "/v1/system/stats",
        "status": 200,
        "caller": "scheduler",
    }
    assert "a-token-of" not in json.dumps(fields)


async def test_no_answer_is_kept_by_a_cache_or_names_the_server_software(api: ApiClient) -> None:
    reply = await api.get("/v1/system/stats")
    assert reply.headers["Cache-Control"] == "no-store"
    assert reply.headers["Server"] == "releasehand"
