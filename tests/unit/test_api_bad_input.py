"""What bad input gets: a clear error that says where, and nothing changed."""

import json
from collections.abc import AsyncIterator
from io import BytesIO
from typing import Any

import pytest

from controller.api.body import MAX_BODY_BYTES
from tests.fakes.api_server import BATCH_ROLLBACK, DEPLOYMENT, INSTANCE_ROLLBACK, ApiClient, ApiServer, Reply

pytestmark = pytest.mark.slow

JSON = {"Content-Type": "application/json"}
MISSING = object()
NO_NAMES = ["", "-x", ".x", "a b", "a/b", "a..b", "é", "a\n", "x" * 129, "a\x00"]
NO_STRINGS: list[Any] = [None, 7, 1.5, True, [], {}]
NO_NUMBERS: list[Any] = [None, "3", 1.5, True, [], {}]
NO_URLS = [
    "http://packages.example.com/a.tar.gz",
    "file:///etc/passwd",
    "ftp://h/x",
    "/etc/passwd",
    "packages.example.com/a",
    "https://",
    "https:///a",
    "https://user:secret@h/a",
    "https://user@h/a",
    "https://h:0/a",
    "https://h:65536/a",
    "https://h:x/a",
    "https://h/a b",
    "https://h/a#part",
    "https://h/a?x=1#",
    "https://h#a",
    "https://h/a\n",
    "https://[::1/a",
    "https://h/" + "a" * 4096,
]


@pytest.fixture
async def api() -> AsyncIterator[ApiClient]:
    client = await ApiServer().start()
    yield client
    await client.http.close()


def assert_refused(reply: Reply, *pointers: str) -> None:
    """A 400 that points at exactly these places."""
    assert (reply.status, reply.json["code"]) == (400, 400), reply.text
    assert reply.json["error"]["type"] == "invalid_request"
    assert not reply.json["error"]["retryable"]
    assert {one["pointer"] for one in reply.json["error"]["errors"]} == set(pointers)
    assert all(one["detail"] for one in reply.json["error"]["errors"])


def bad_fields() -> list[Any]:
    """(path, good body, field, bad values) for every field of every body."""
    bodies: dict[str, dict[str, Any]] = {
        "/v1/deployment": DEPLOYMENT,
        "/v1/rollback/instance": INSTANCE_ROLLBACK,
        "/v1/rollback/batch": BATCH_ROLLBACK,
    }
    per_field: dict[str, list[Any]] = {
        "service": [MISSING, *NO_STRINGS, *NO_NAMES],
        "deploy_id": [MISSING, *NO_STRINGS, *NO_NAMES],
        "instance_id": [MISSING, *NO_STRINGS, *NO_NAMES],
        "version": [MISSING, *NO_STRINGS, *NO_NAMES, "current", "previous"],
        "target_version": [MISSING, *NO_STRINGS, *NO_NAMES, "current"],
        "instances": [MISSING, None, "instance-1", {}, [], ["a", "a"], [str(n) for n in range(20_001)]],
        "timeout": [*NO_NUMBERS, -1, 86_401, 10**30],
        "retry_count": [*NO_NUMBERS, -2, 11],
        "package_sha256": [*NO_STRINGS, "f" * 63, "g" * 64, "f" * 65],
        "force": [None, 0, 1, "true", []],
    }
    rows = []
    for path, good in bodies.items():
        fields = set(good) | {"timeout", "package_sha256"}
        fields |= {"retry_count"} if path == "/v1/deployment" else {"force"}
        rows += [(path, good, field, per_field[field]) for field in sorted(fields - {"package_url"})]
        urls = [*NO_STRINGS, *NO_URLS] + ([MISSING, ""] if path == "/v1/deployment" else [])
        rows.append((path, good, "package_url", urls))
    return rows


@pytest.mark.parametrize(("path", "good", "field", "values"), bad_fields())
async def test_a_bad_field_is_refused_and_pointed_at(
    api: ApiClient, path: str, good: dict[str, Any], field: str, values: list[Any]
) -> None:
    for bad in values:
        body = {key: value for key, value in {**good, field: bad}.items() if value is not MISSING}
        assert_refused(await api.post(path, body), f"/{field}")
    assert api.server.store.calls == []


async def test_bad_members_of_a_list_are_pointed_at_by_index(api: ApiClient) -> None:
    reply = await api.post("/v1/deployment", DEPLOYMENT | {"instances": ["a", "b c", "d", 7]})
    assert_refused(reply, "/instances/1", "/instances/3")


async def test_all_problems_are_told_at_once(api: ApiClient) -> None:
    body = {"service": "a b", "instances": [], "timeout": -1, "force": True, "a/b~c": 1}
    reply = await api.post("/v1/deployment?x=1", body)
    assert_refused(
        reply,
        "x",
        *(
            "/service",
            "/version",
            "/instances",
            "/package_url",
            "/deploy_id",
            "/timeout",
            "/force",
            "/a~1b~0c",
        ),
    )
    assert "(and 8 more problems)" in reply.json["error"]["detail"]


async def test_the_list_of_problems_is_cut_at_100(api: ApiClient) -> None:
    reply = await api.post("/v1/deployment", DEPLOYMENT | {"instances": [""] * 5_000})
    assert_refused(reply, *(f"/instances/{n}" for n in range(100)))
    assert len(reply.json["error"]["errors"]) == 100


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b"nul",
        b"'a'",
        b'{"service": NaN}',
        b'{"timeout": Infinity}',
        b'{"timeout": -Infinity}',
        b'{"service": "a", "service": "a"}',
        b'{"x": {"y": 1, "y": 2}}',
        b'{"service": "\xff"}',
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"timeout": ' + b"9" * 10_000 + b"}",
        b"null",
        b"[]",
        b'"text"',
        b"7",
    ],
)
async def test_a_body_that_is_no_json_object_is_refused_as_a_whole(api: ApiClient, text: bytes) -> None:
    reply = await api.call("POST", "/v1/deployment", data=text, headers=JSON)
    assert_refused(reply, "")


@pytest.mark.parametrize(("field", "pointer"), [("service", "/service"), ("\udfff", "")])
async def test_a_lone_surrogate_is_no_text(api: ApiClient, field: str, pointer: str) -> None:
    text = json.dumps(DEPLOYMENT | {field: "\ud800"})
    reply = await api.call("POST", "/v1/deployment", data=text.encode(), headers=JSON)
    assert_refused(reply, pointer)


async def test_a_whole_number_may_be_written_with_a_fraction_of_zero(api: ApiClient) -> None:
    text = json.dumps(DEPLOYMENT | {"timeout": 60.0})
    assert (await api.call("POST", "/v1/deployment", data=text.encode(), headers=JSON)).status == 200


@pytest.mark.parametrize("body", [{"x": 1}, [], None, "x"])
async def test_a_cancel_takes_nothing_but_an_empty_object(api: ApiClient, body: Any) -> None:
    reply = await api.call("POST", "/v1/deployment/d/cancel", data=json.dumps(body), headers=JSON)
    assert_refused(reply, "/x" if isinstance(body, dict) else "")
    assert api.server.store.calls == []


STATUS_PATHS = ["/v1/deployment/d", "/v1/rollback/r"]
INSTANCES = "/v1/service/s/instances"
HISTORY = "/v1/instance/i/version-history"


WAITS = ["30", "61s", "2m", "60001ms", "-1s", "1h", "s", "1s1s", "60.1s", "1m1s", "01s", "1s%0A"]
PAGED = ["-1", "1001", "x", "1.0", "%2B1", "007", "1&{0}=1"]


@pytest.mark.parametrize(
    ("path", "parameter", "values"),
    [
        *((path, "limit", PAGED) for path in (INSTANCES, HISTORY)),
        *((path, "offset", ["-1", "x", "2147483648", "9" * 30]) for path in (INSTANCES, HISTORY)),
        (INSTANCES, "status", ["broken", "RUNNING", "error&{0}=error"]),
        (INSTANCES, "version", ["a%20b", "a..b"]),
        (INSTANCES, "Status", ["error", ""]),
        (INSTANCES, "include_stopped", ["true"]),
        ("/v1/service/s/versions", "include_stopped", ["1", "yes", "True"]),
        ("/v1/system/stats", "period", ["2h", "24H", "1d"]),
        ("/v1/system/health", "x", ["", "1"]),
        *((path, "instance_limit", PAGED) for path in STATUS_PATHS),
        *((path, "instance_offset", ["-1", "2147483648"]) for path in STATUS_PATHS),
        *((path, "instance_status", ["running"]) for path in STATUS_PATHS),
        *((path, "wait", WAITS) for path in STATUS_PATHS),
    ],
)
async def test_a_bad_query_is_refused_and_names_the_parameter(
    api: ApiClient, path: str, parameter: str, values: list[str]
) -> None:
    for bad in values:
        assert_refused(await api.get(f"{path}?{parameter}={bad.format(parameter)}"), parameter)
    assert api.server.store.calls == []


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("/v1/deployment/{}", "deploy_id"),
        ("/v1/rollback/{}", "rollback_id"),
        ("/v1/service/{}/versions", "service"),
        ("/v1/service/{}/instances", "service"),
        ("/v1/instance/{}/version-history", "instance_id"),
    ],
)
async def test_an_id_in_the_path_that_is_no_name_is_refused(
    api: ApiClient, path: str, parameter: str
) -> None:
    for name in ("-x", "a%20b", "a%2Fb", "a..b", "%FF", "x" * 129, "a%00", "%0A", "%7B"):
        assert_refused(await api.get(path.format(name)), parameter)
    assert api.server.store.calls == []


@pytest.mark.parametrize(("path", "body"), [("instance", INSTANCE_ROLLBACK), ("batch", BATCH_ROLLBACK)])
async def test_a_bad_idempotency_key_is_refused(api: ApiClient, path: str, body: dict[str, Any]) -> None:
    for key in ("", "a b", "é", "x" * 129):
        reply = await api.post(f"/v1/rollback/{path}", body, headers={"Idempotency-Key": key})
        assert_refused(reply, "Idempotency-Key")
    assert api.server.store.calls == []


async def send_in_chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 65_536):
        yield b" " * 65_536


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_more_than_8_mib_is_refused(api: ApiClient, chunked: bool) -> None:
    size = MAX_BODY_BYTES + 65_536
    data: Any = send_in_chunks(size) if chunked else BytesIO(b" " * size)
    reply = await api.call("POST", "/v1/deployment", data=data, headers=JSON)
    assert (reply.status, reply.json["error"]["type"]) == (413, "body_too_large")


async def test_20000_instances_fit_into_a_request(api: ApiClient) -> None:
    names = ["i" * 100 + f"-{n}" for n in range(20_000)]
    api.server.store.services["big"] = dict.fromkeys(names, "v1")
    body = BytesIO(json.dumps(DEPLOYMENT | {"service": "big", "instances": names}).encode())
    reply = await api.call("POST", "/v1/deployment", data=body, headers=JSON)
    assert reply.json["data"]["total_instances"] == 20_000


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=latin-1"},
        {"Content-Type": "application/jsonx"},
        {"Content-Type": ""},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
@pytest.mark.parametrize("path", ["/v1/deployment", "/v1/deployment/d/cancel", "/v1/rollback/batch"])
async def test_a_body_that_is_not_said_to_be_plain_json_is_refused(
    api: ApiClient, path: str, headers: dict[str, str]
) -> None:
    reply = await api.call("POST", path, data=b"{}", headers=headers)
    assert (reply.status, reply.json["error"]["type"]) == (415, "unsupported_media_type")


@pytest.mark.parametrize("said", ["application/json;charset=utf-8", "Application/JSON; charset=UTF-8"])
async def test_json_may_say_that_it_is_utf_8(api: ApiClient, said: str) -> None:
    data = json.dumps(DEPLOYMENT).encode()
    reply = await api.call("POST", "/v1/deployment", data=data, headers={"Content-Type": said})
    assert reply.status == 200
