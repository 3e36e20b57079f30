"""What bad input gets from a whole controller: a clear error in the envelope, and not one row changed."""

import json
import socket
from collections.abc import Iterator
from io import BytesIO
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from releasehand.model import Phase
from tests.contract.simulated import Copy, Course
from tests.contract.stage import BEARER, Reply, Stage, run_stage

SERVICE: Final = "user-service"
URL: Final = "https://packages.example.com/v2.tar.gz"
JSON: Final = {"Content-Type": "application/json"}
DEPLOY: Final = "/v1/deployment"
ONE: Final = "/v1/rollback/instance"
BATCH: Final = "/v1/rollback/batch"
DEPLOYMENT: Final[dict[str, Any]] = {
    "service": SERVICE,
    "version": "v2",
    "instances": ["instance-1"],
    "package_url": URL,
    "deploy_id": "deploy-new",
}
INSTANCE_ROLLBACK: Final[dict[str, Any]] = {"instance_id": "instance-1", "target_version": "v0"}
BATCH_ROLLBACK: Final[dict[str, Any]] = {
    "service": SERVICE,
    "target_version": "v0",
    "instances": ["instance-1"],
}
NO_NAMES: Final = ["", ".", "..", "-x", ".x", "a b", "a/b", "../x", "a..b", "é", "a\n", "a\x00", "x" * 129]
NO_VERSIONS: Final = [*NO_NAMES, "current"]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """instance-1 is free; instance-2 is held by deployment deploy-held; deploy-done has ended."""
    fleet = {"host-1": {f"instance-{n}": Copy(SERVICE, "v1", ["v1"]) for n in (1, 2, 3)}}
    fleet["host-2"] = {"order-1": Copy("order-service", "v1", ["v1"])}
    with run_stage(tmp_path_factory.mktemp("bad-input"), fleet) as made:
        agent = made.agents["host-1"]
        agent.courses["v9"] = Course(hold=Phase.DOWNLOADING)
        done = DEPLOYMENT | {"instances": ["instance-3"], "deploy_id": "deploy-done"}
        assert made.call("POST", DEPLOY, done).status == 200
        assert made.call("GET", f"{DEPLOY}/deploy-done?wait=20s").data["status"] == "completed"
        held = DEPLOYMENT | {"version": "v9", "instances": ["instance-2"], "deploy_id": "deploy-held"}
        assert made.call("POST", DEPLOY, held).status == 200
        made.run(agent.wait_until_held("v9", "instance-2"))
        yield made


@pytest.fixture(autouse=True)
def nothing_changes(stage: Stage) -> Iterator[None]:
    before = stage.dump()
    yield
    assert stage.dump() == before


def assert_refused(reply: Reply, status: int, error_type: str) -> Any:
    """The envelope, whole and never HTML; returns its `error`."""
    assert reply.status == status, reply.text
    assert reply.headers["Content-Type"].startswith("application/json")
    assert set(reply.json) == {"code", "message", "data", "error"}
    assert (reply.json["code"], reply.json["data"]) == (status, None)
    error = reply.error
    assert set(error) == {"type", "detail", "errors", "request_id", "retryable"}
    assert error["type"] == error_type
    assert error["detail"]
    assert error["request_id"] == reply.headers["X-Request-Id"]
    return error


def assert_pointed(reply: Reply, *pointers: str) -> None:
    error = assert_refused(reply, 400, "invalid_request")
    assert {one["pointer"] for one in error["errors"]} == set(pointers)


# ---------------------------------------------------------------------------------------- what is not there


@pytest.mark.parametrize(
    ("path", "body"),
    [
        (DEPLOY, DEPLOYMENT | {"service": "no-service"}),
        (BATCH, BATCH_ROLLBACK | {"service": "no-service"}),
        ("/v1/service/no-service/versions", None),
        ("/v1/service/no-service/instances", None),
    ],
)
def test_an_unknown_service_is_named(stage: Stage, path: str, body: Any) -> None:
    reply = stage.call("POST" if body else "GET", path, body)
    error = assert_refused(reply, 404, "unknown_service")
    assert "no-service" in error["detail"]
    assert [one["pointer"] for one in error["errors"]] == ["/service" if body else "service"]


@pytest.mark.parametrize(
    ("path", "body", "named"),
    [
        (
            DEPLOY,
            DEPLOYMENT | {"instances": ["instance-1", "ghost-1", "ghost-2"]},
            {1: "ghost-1", 2: "ghost-2"},
        ),
        (BATCH, BATCH_ROLLBACK | {"instances": ["ghost-1", "instance-1"]}, {0: "ghost-1"}),
        (DEPLOY, DEPLOYMENT | {"instances": ["order-1"]}, {0: "order-1"}),  # of another service
    ],
)
def test_every_unknown_instance_is_named_by_its_place(
    stage: Stage, path: str, body: Any, named: dict[int, str]
) -> None:
    error = assert_refused(stage.call("POST", path, body), 404, "unknown_instance")
    assert [one["pointer"] for one in error["errors"]] == [f"/instances/{at}" for at in named]
    for one, name in zip(error["errors"], named.values(), strict=True):
        assert name in one["detail"]
        assert name in error["detail"]


def test_an_unknown_instance_alone_is_named(stage: Stage) -> None:
    reply = stage.call("POST", ONE, INSTANCE_ROLLBACK | {"instance_id": "ghost-1"})
    error = assert_refused(reply, 404, "unknown_instance")
    assert ("ghost-1" in error["detail"], error["errors"][0]["pointer"]) == (True, "/instance_id")
    error = assert_refused(stage.call("GET", "/v1/instance/ghost-1/version-history"), 404, "unknown_instance")
    assert ("ghost-1" in error["detail"], error["errors"][0]["pointer"]) == (True, "instance_id")


@pytest.mark.parametrize("kind", ["deployment", "rollback"])
@pytest.mark.parametrize(("method", "rest"), [("GET", ""), ("GET", "?wait=60s"), ("POST", "/cancel")])
def test_an_unknown_operation_is_named_at_once(stage: Stage, kind: str, method: str, rest: str) -> None:
    error = assert_refused(stage.call(method, f"/v1/{kind}/no-such-id{rest}"), 404, f"unknown_{kind}")
    assert "no-such-id" in error["detail"]


# --------------------------------------------------------------------------------------- what is in the way


@pytest.mark.parametrize(
    ("path", "body", "pointer"),
    [
        (DEPLOY, DEPLOYMENT | {"instances": ["instance-1", "instance-2"]}, "/instances/1"),
        (BATCH, BATCH_ROLLBACK | {"instances": ["instance-2", "instance-1"]}, "/instances/0"),
        (ONE, INSTANCE_ROLLBACK | {"instance_id": "instance-2"}, "/instance_id"),
    ],
)
def test_a_busy_instance_names_the_operation_that_holds_it(
    stage: Stage, path: str, body: Any, pointer: str
) -> None:
    error = assert_refused(stage.call("POST", path, body), 409, "instance_busy")
    assert error["retryable"]
    [one] = error["errors"]
    assert one["pointer"] == pointer
    for text in (one["detail"], error["detail"]):
        assert "instance-2" in text
        assert "deployment 'deploy-held'" in text


def test_what_has_ended_without_a_cancel_cannot_be_cancelled(stage: Stage) -> None:
    error = assert_refused(stage.call("POST", f"{DEPLOY}/deploy-done/cancel"), 409, "already_ended")
    assert "completed" in error["detail"]


# ------------------------------------------------------------------------------------------ what is no JSON


@pytest.mark.parametrize("path", [DEPLOY, ONE, BATCH])
@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"[]",
        b"null",
        b"7",
        b'"x"',
        b'{"a": NaN}',
        b'{"a": 1, "a": 2}',
        b'{"a": "\xff"}',
    ],
)
def test_a_body_that_is_no_json_object_is_refused(stage: Stage, path: str, text: bytes) -> None:
    assert_pointed(stage.call("POST", path, data=text, headers=JSON), "")


@pytest.mark.parametrize(
    ("path", "good"), [(DEPLOY, DEPLOYMENT), (ONE, INSTANCE_ROLLBACK), (BATCH, BATCH_ROLLBACK)]
)
def test_an_unknown_field_is_refused_even_if_it_is_null(stage: Stage, path: str, good: Any) -> None:
    for value in (None, "", 0, {"a": 1}):
        assert_pointed(stage.call("POST", path, good | {"surprise": value}), "/surprise")
    assert_pointed(stage.call("POST", f"{path}?surprise=1", good), "surprise")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_over_8_mib_is_refused(stage: Stage, chunked: bool) -> None:
    size = 8 * 1024 * 1024 + 1

    async def pieces() -> Any:
        for _ in range(size // 65_536 + 1):
            yield b" " * 65_536

    data: Any = pieces() if chunked else BytesIO(b" " * size)
    assert_refused(stage.call("POST", DEPLOY, data=data, headers=JSON), 413, "body_too_large")


def test_a_body_of_8_mib_is_read(stage: Stage) -> None:
    text = json.dumps(DEPLOYMENT | {"timeout": -1}).encode()
    padded = BytesIO(text + b" " * (8 * 1024 * 1024 - len(text)))
    assert_pointed(stage.call("POST", DEPLOY, data=padded, headers=JSON), "/timeout")


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
@pytest.mark.parametrize("path", [DEPLOY, ONE, BATCH, f"{DEPLOY}/deploy-held/cancel"])
def test_a_body_that_is_not_said_to_be_json_is_refused(
    stage: Stage, path: str, headers: dict[str, str]
) -> None:
    reply = stage.call("POST", path, data=b"{}", headers=headers)
    assert_refused(reply, 415, "unsupported_media_type")


# ------------------------------------------------------------------------------------ what is out of bounds


@pytest.mark.parametrize(
    ("path", "good", "field", "bad"),
    [
        *((DEPLOY, DEPLOYMENT, field, bad) for field in ("service", "deploy_id") for bad in NO_NAMES),
        *((DEPLOY, DEPLOYMENT, "version", bad) for bad in [*NO_VERSIONS, "previous"]),
        *((ONE, INSTANCE_ROLLBACK, "instance_id", bad) for bad in NO_NAMES),
        *((ONE, INSTANCE_ROLLBACK, "target_version", bad) for bad in NO_VERSIONS),
        *((BATCH, BATCH_ROLLBACK, "service", bad) for bad in NO_NAMES),
        *((BATCH, BATCH_ROLLBACK, "target_version", bad) for bad in NO_VERSIONS),
        *(
            (path, good, "package_url", bad)
            for path, good in ((DEPLOY, DEPLOYMENT), (ONE, INSTANCE_ROLLBACK), (BATCH, BATCH_ROLLBACK))
            for bad in (
                "http://packages.example.com/v2.tar.gz",
                "file:///etc/passwd",
                "ftp://h/x",
                "/v2.tar.gz",
                "https://",
                "https://user:secret@h/x",
                "https://h/a b",
            )
        ),
        *(
            (path, good, "timeout", bad)
            for path, good in ((DEPLOY, DEPLOYMENT), (ONE, INSTANCE_ROLLBACK), (BATCH, BATCH_ROLLBACK))
            for bad in (-1, -300, 86_401, 2**63)
        ),
        *((DEPLOY, DEPLOYMENT, "retry_count", bad) for bad in (-2, 11, 2**63)),
        *(
            (DEPLOY, DEPLOYMENT, "instances", bad)
            for bad in ([], ["a", "a"], [f"i-{n}" for n in range(20_001)])
        ),
        *((BATCH, BATCH_ROLLBACK, "instances", bad) for bad in ([], ["a", "b", "a"])),
        *((DEPLOY, DEPLOYMENT, "package_sha256", bad) for bad in ("f" * 63, "g" * 64)),
    ],
)
def test_a_value_out_of_its_bounds_is_pointed_at(
    stage: Stage, path: str, good: Any, field: str, bad: Any
) -> None:
    reply = stage.call("POST", path, good | {field: bad})
    assert_pointed(reply, f"/{field}")
    assert "secret" not in reply.text


@pytest.mark.parametrize("name", NO_NAMES[3:])
@pytest.mark.parametrize("path", [DEPLOY, BATCH])
def test_a_bad_name_in_a_list_is_pointed_at(stage: Stage, path: str, name: str) -> None:
    good = DEPLOYMENT if path == DEPLOY else BATCH_ROLLBACK
    assert_pointed(stage.call("POST", path, good | {"instances": ["instance-1", name]}), "/instances/1")


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        *(
            (f"/v1/service/{SERVICE}/instances?{query}", query.partition("=")[0])
            for query in (
                "limit=-1",
                "limit=1001",
                "limit=x",
                "offset=-1",
                "offset=1.5",
                "status=up",
                "version=..",
            )
        ),
        *(
            (f"/v1/instance/instance-1/version-history?{query}", query.partition("=")[0])
            for query in ("limit=-1", "limit=1001", "offset=-1", "page=2")
        ),
        *((f"/v1/system/stats?period={bad}", "period") for bad in ("2h", "1d", "24H", "7", "30D")),
        (f"/v1/service/{SERVICE}/versions?include_stopped=yes", "include_stopped"),
        *((f"{DEPLOY}/deploy-done?wait={bad}", "wait") for bad in ("61s", "-1s", "30", "forever")),
        (f"{DEPLOY}/deploy-done?instance_limit=1001", "instance_limit"),
        (f"{DEPLOY}/..%2Fdeploy-done", "deploy_id"),
        ("/v1/service/a%20b/versions", "service"),
    ],
)
def test_a_bad_parameter_is_named(stage: Stage, path: str, parameter: str) -> None:
    assert_pointed(stage.call("GET", path), parameter)


# --------------------------------------------------------------------------------------- what nobody serves


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v2/deployment",
        "/v1/deployment/",
        "/v1/deployment/a/b",
        "/v1/deployments",
        "/favicon.ico",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
def test_an_unknown_path_is_not_found(stage: Stage, method: str, path: str) -> None:
    assert_refused(stage.call(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", DEPLOY, "GET, HEAD, POST"),
        ("DELETE", f"{DEPLOY}/deploy-done", "GET, HEAD"),
        ("PUT", ONE, "POST"),
        ("GET", f"{DEPLOY}/deploy-done/cancel", "POST"),
        ("POST", "/v1/system/stats", "GET, HEAD"),
        ("OPTIONS", DEPLOY, "GET, HEAD, POST"),
    ],
)
def test_another_method_is_refused_and_told_the_right_ones(
    stage: Stage, method: str, path: str, allowed: str
) -> None:
    reply = stage.call(method, path)
    assert_refused(reply, 405, "method_not_allowed")
    assert reply.headers["Allow"] == allowed


@pytest.mark.parametrize("authorization", ["", "Bearer", "Bearer nobody-has-this", "Basic YTpi"])
def test_nobody_without_a_token_is_answered(stage: Stage, authorization: str) -> None:
    headers = {"Authorization": authorization}
    for method, path, body in (("POST", DEPLOY, DEPLOYMENT), ("GET", "/v1/system/stats", None)):
        reply = stage.call(method, path, body, headers=headers)
        assert_refused(reply, 401, "unauthenticated")
        assert reply.headers["WWW-Authenticate"].startswith("Bearer")


@pytest.mark.parametrize(
    "request_line",
    [
        b"GET /v1/system/stats?x=\xff\xfe HTTP/1.1",
        b"GET /v1/%zz HTTP/1.1",
        b"BREW /v1/system/stats HTTP/1.1",
        b"no HTTP at all",
        b"GET /" + b"x" * 100_000 + b" HTTP/1.1",
        b"GET //v1//deployment HTTP/1.1",
        b"POST /v1/../v1/deployment HTTP/1.1",
    ],
)
def test_a_strange_request_line_gets_no_html(stage: Stage, request_line: bytes) -> None:
    address = urlsplit(stage.addresses.api)
    headers = f"Host: x\r\nAuthorization: {BEARER['Authorization']}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection((address.hostname, address.port), timeout=10) as peer:
        peer.sendall(request_line + b"\r\n" + headers)
        answer = b"".join(iter(lambda: peer.recv(65_536), b""))
    head, _, content = answer.partition(b"\r\n\r\n")
    tree = json.loads(content)
    assert int(head.split(b" ")[1]) == tree["code"]
    assert tree["code"] in {400, 404}
    assert tree["error"]["detail"]
