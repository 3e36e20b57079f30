"""The OpenAPI document says what the server does: every route, and a schema that accepts what the models
accept."""

import json
import re
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st
from multidict import MultiDict
from openapi_spec_validator import OpenAPIV31SpecValidator
from pydantic import TypeAdapter, ValidationError

from controller.api.errors import FAULTS
from controller.api.openapi import build_document
from controller.api.query import parse_query
from controller.api.routes import ROUTES
from controller.api.routing import AnyRoute
from releasehand.model import MAX_INSTANCES, ErrorType, Name, Version, check_package_url
from releasehand.model.fields import OptionalDigest, OptionalPackageUrl, PackageUrl, TargetVersion
from tests.fakes.api_server import BATCH_ROLLBACK, DEPLOYMENT, INSTANCE_ROLLBACK, ApiServer

DOCUMENT: dict[str, Any] = json.loads(build_document(ROUTES, version="0.1.0"))
SCHEMAS = DOCUMENT["components"]["schemas"]
each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)


def operation_of(route: AnyRoute) -> dict[str, Any]:
    found: dict[str, Any] = DOCUMENT["paths"][route.path][route.method.lower()]
    return found


def reader_of(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    """One that knows what the schema refers to."""
    return jsonschema.Draft202012Validator({**schema, "components": DOCUMENT["components"]})


def accepts(schema: dict[str, Any], value: Any) -> bool:
    """Whether a schema of the document accepts a value."""
    return bool(reader_of(schema).is_valid(value))


def test_the_document_is_valid_openapi_3_1() -> None:
    assert DOCUMENT["openapi"] == "3.1.0"
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_the_document_has_the_routes_of_the_table_and_the_plain_ones_alone() -> None:
    told = {(method.upper(), path) for path, item in DOCUMENT["paths"].items() for method in item}
    paths = ("/livez", "/readyz", "/openapi.json", "/install.sh", "/install/{file}")
    plain = {("GET", path) for path in paths}
    assert told == {(route.method, route.path) for route in ROUTES} | plain


def test_the_document_is_the_same_each_time() -> None:
    assert json.loads(build_document(ROUTES, version="0.1.0")) == DOCUMENT


async def test_the_document_is_served_without_a_token() -> None:
    client = await ApiServer().start()
    reply = await client.call_without_token("GET", "/openapi.json")
    await client.http.close()
    assert (reply.status, reply.json) == (200, DOCUMENT)


@each_route
def test_an_operation_has_the_name_words_and_security_of_its_route(route: AnyRoute) -> None:
    operation = operation_of(route)
    assert operation["operationId"] == route.operation_id
    assert len(operation["summary"]) > 20
    assert operation["description"]
    assert operation["security"] == ([] if route.scope is None else [{"bearer": [route.scope.value]}])
    assert all(one["description"] for one in operation["parameters"] if one["in"] == "query")


@each_route
def test_an_operation_names_all_its_parameters(route: AnyRoute) -> None:
    told = {(one["in"], one["name"]) for one in operation_of(route)["parameters"]}
    wanted = {("query", name) for name in route.query.model_fields}
    wanted |= {("path", name) for name in re.findall(r"{(\w+)}", route.path)}
    wanted |= {("header", "Idempotency-Key")} if route.takes_idempotency_key else set()
    wanted |= {("header", "Last-Event-ID")} if route.stream else set()
    assert told == wanted


@each_route
def test_an_operation_documents_every_status_it_can_answer(route: AnyRoute) -> None:
    responses = operation_of(route)["responses"]
    assert {"200", "400", "417", "500", "503"} <= set(responses)
    assert ("401" in responses) is not route.open
    assert ({"413", "415"} <= set(responses)) is (route.request_model is not None)
    for refusal in route.refusals:
        assert f"`{refusal}`" in responses[str(FAULTS[refusal].status)]["description"]


@each_route
def test_a_refusal_is_described_with_its_status_and_types_alone(route: AnyRoute) -> None:
    for code, response in operation_of(route)["responses"].items():
        schema = reader_of(response["content"]["application/json"]["schema"])
        for error_type in ErrorType:
            status = FAULTS[error_type].status
            body = {
                "code": status,
                "message": "",
                "data": None,
                "error": {
                    "type": error_type,
                    "detail": "",
                    "errors": [],
                    "request_id": "r",
                    "retryable": False,
                },
            }
            listed = f"`{error_type}`" in response["description"]
            assert schema.is_valid(body) is listed, (code, error_type)


@each_route
def test_an_example_is_a_request_that_is_accepted(route: AnyRoute) -> None:
    if route.request_model is None:
        assert "requestBody" not in operation_of(route)
        return
    body = operation_of(route)["requestBody"]
    content = body["content"]["application/json"]
    assert body["required"] is route.body_required
    assert accepts(content["schema"], content["example"])
    assert route.request_model.model_validate(content["example"]) == route.example


def test_every_field_of_an_answer_is_required() -> None:
    requests = {route.request_model.__name__ for route in ROUTES if route.request_model}
    for name, schema in SCHEMAS.items():
        if schema.get("type") == "object" and name not in requests:
            assert set(schema["required"]) == set(schema["properties"]), name


def test_unknown_fields_of_requests_are_refused_and_of_answers_allowed() -> None:
    strict = {name for name, schema in SCHEMAS.items() if schema.get("additionalProperties") is False}
    assert strict == {route.request_model.__name__ for route in ROUTES if route.request_model}


NAME_CHARS = st.text(st.sampled_from("aZ0._+-/ \né"), max_size=6)
HOSTS = ["h", "h.example.com", "127.0.0.1", "u@h", "u:p@h", "é", "", "_x", "-x", ".", "h h", "h\\x"]
HOSTS += ["[::1]", "[1:2:3:4:5:6:7:8]", "[1::8]", "[::", "[1:2]", "[12345::1]"]
TEXTS: dict[str, st.SearchStrategy[str]] = {
    "name": NAME_CHARS | st.sampled_from(["current", "previous", "a" * 128, "a" * 129, "1", "v1.2.3+b-1_x"]),
    "url": st.builds(
        "".join,
        st.tuples(
            st.sampled_from(["https://", "HTTPS://", "http://", "https:", ""]),
            st.sampled_from(HOSTS),
            st.sampled_from(["", ":", ":1", ":0", ":00", ":65535", ":65536", ":08443", ":x", ":-1"]),
            st.sampled_from(
                ["", "/", "/a.tar.gz?X-Signature=a%2Fb#c", "?q", "#f", "/é", "/a b", "/\x7f", "/\n"]
            ),
        ),
    ),
    "digest": st.sampled_from(["", "0" * 64, "F" * 64, "g" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"]),
}


@pytest.mark.parametrize(
    ("field_type", "kind"),
    [
        (Name, "name"),
        (Version, "name"),
        (TargetVersion, "name"),
        (PackageUrl, "url"),
        (OptionalPackageUrl, "url"),
        (OptionalDigest, "digest"),
    ],
    ids=["name", "version", "target", "url", "optional-url", "digest"],
)
@given(data=st.data())
def test_a_schema_accepts_exactly_what_the_field_accepts(field_type: Any, kind: str, data: Any) -> None:
    adapter: TypeAdapter[str] = TypeAdapter(field_type)
    text = data.draw(TEXTS[kind])
    try:
        adapter.validate_python(text)
        accepted = True
    except ValidationError:
        accepted = False
    schema = adapter.json_schema()
    pattern = schema.pop("pattern")
    by_pattern = re.search(pattern.replace("$", r"\Z"), text) is not None  # ECMA 262: `$` is the very end
    by_rest = jsonschema.Draft202012Validator(schema).is_valid(text)
    assert accepted is (by_pattern and by_rest), (text, accepted)


@pytest.mark.parametrize(
    "url", ["https://[::ffff]/a", "https://a_b.example.com:8443/p?q", "https://xn--e1afmkfd/"]
)
def test_usual_urls_are_accepted(url: str) -> None:
    assert check_package_url(url) == url


@pytest.mark.parametrize(
    ("model", "body"),
    [
        ("DeployParams", DEPLOYMENT),
        ("InstanceRollbackParams", INSTANCE_ROLLBACK),
        ("BatchRollbackParams", BATCH_ROLLBACK),
    ],
)
def test_the_schema_of_a_body_knows_its_bounds(model: str, body: dict[str, Any]) -> None:
    schema = {"$ref": f"#/components/schemas/{model}"}
    assert accepts(schema, body)
    assert accepts(schema, body | {"timeout": 86_400})
    for wrong in ({"timeout": 86_401}, {"timeout": -1}, {"timeout": 1.5}, {"unknown": 1}):
        assert not accepts(schema, body | wrong)
    if "instances" in body:
        instances = SCHEMAS[model]["properties"]["instances"]
        assert (instances["minItems"], instances["maxItems"]) == (1, MAX_INSTANCES)
        assert instances["uniqueItems"]


@pytest.mark.parametrize(
    "value", ["0", "1", "100", "1000", "1001", "-1", "x", "1.5", "2147483648", "007", "1e2"]
)
@each_route
def test_a_parameter_accepts_what_its_schema_accepts(route: AnyRoute, value: str) -> None:
    for parameter in operation_of(route)["parameters"]:
        if parameter["in"] != "query":
            continue
        _, problems = parse_query(route.query, MultiDict({parameter["name"]: value}))
        whole = re.fullmatch(r"0|-?[1-9][0-9]*", value)
        is_number = parameter["schema"].get("type") == "integer"
        sent = int(value) if is_number and whole else value
        assert accepts(parameter["schema"], sent) is not bool(problems), (parameter["name"], value)
        assert parameter["allowEmptyValue"]
        assert not parse_query(route.query, MultiDict({parameter["name"]: ""}))[1]
