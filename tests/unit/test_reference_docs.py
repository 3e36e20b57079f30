"""docs/reference/http-api.md says what the code does: each function, field, type, word, limit and example."""

import json
import re
import shlex
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pytest
from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from controller.api.body import MAX_BODY_BYTES
from controller.api.deps import MAX_WAITERS
from controller.api.errors import MAX_FIELD_ERRORS
from controller.api.query import DEFAULT_HISTORY_LIMIT, DEFAULT_LIMIT, MAX_LIMIT, wait_seconds
from controller.api.routes import ROUTES
from controller.api.routing import AnyRoute
from releasehand import model
from releasehand.model import DEFAULT_RETRIES, DEFAULT_TIMEOUT_S, MAX_INSTANCES, Envelope, ErrorEnvelope
from releasehand.model.deployment import MAX_RETRIES, MAX_TIMEOUT_S
from releasehand.model.fields import MAX_URL_CHARS

REFERENCE: Final = Path(__file__).resolve().parents[2] / "docs" / "reference"
DOCUMENT: Final = (REFERENCE / "http-api.md").read_text(encoding="utf-8")
SECTIONS: Final = {
    part.partition("\n")[0]: part.partition("\n")[2]
    for part in re.split(r"^## ", DOCUMENT, flags=re.MULTILINE)
}
TABLE: Final = re.compile(
    r"(?P<before>.*)\n\n\| (?P<kind>field|parameter) \|.*\n\|[ -|]+\|\n(?P<rows>(?:\|.*\n)+)"
)
DEFAULTS: Final = {"timeout": DEFAULT_TIMEOUT_S, "retry_count": DEFAULT_RETRIES, "force": "false"}

each_route = pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation_id)


class _Bare(GenerateJsonSchema):
    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def schema_of(kind: type[BaseModel], mode: Any) -> dict[str, Any]:
    found: dict[str, Any] = kind.model_json_schema(mode=mode, schema_generator=_Bare)
    return found


def type_in_words(schema: dict[str, Any]) -> str:
    """The type as the document writes it."""
    if "$ref" in schema:
        return f"`{schema['$ref'].rpartition('/')[2]}`"
    if "anyOf" in schema:
        return " or ".join(type_in_words(one) for one in schema["anyOf"])
    if "const" in schema:
        return json.dumps(schema["const"])
    match schema["type"]:
        case "array":
            return f"list of {type_in_words(schema['items'])}"
        case "object":
            return f"map of string to {type_in_words(schema['additionalProperties'])}"
        case "string" if schema.get("format") == "date-time":
            return "time"
        case other:
            return str(other)


def rows_of(table: re.Match[str]) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in table["rows"].splitlines()]
    return {row[0].strip("` "): row[1:] for row in rows}


def tables() -> Iterator[tuple[str, re.Match[str]]]:
    for title, text in SECTIONS.items():
        for table in TABLE.finditer(text):
            yield title, table


def find_answer_tables() -> dict[str, dict[str, list[str]]]:
    """The tables that tell a model of an answer, by the model that the words before them name first."""
    found: dict[str, dict[str, list[str]]] = {}
    for _, table in tables():
        rows = rows_of(table)
        if table["kind"] == "field" and all(len(row) == 2 for row in rows.values()):
            [name, *_] = re.findall(r"`([A-Z]\w+)`", table["before"])
            assert name not in found, f"{name} is told twice"
            found[name] = rows
    return found


ANSWER_TABLES: Final = find_answer_tables()


def models_within(kind: type[BaseModel]) -> set[str]:
    """The names of a model of an answer and of all models inside it."""
    inside = schema_of(kind, "serialization").get("$defs", {})
    return {kind.__name__, *(name for name, schema in inside.items() if schema["type"] == "object")}


def examples_of(route: AnyRoute) -> list[dict[str, Any]]:
    shown = re.findall(r"```json\n(.*?)```", SECTIONS[route.operation_id], re.DOTALL)
    return [json.loads(text) for text in shown]


def test_the_table_of_functions_is_the_table_of_routes() -> None:
    listed = re.findall(r"^\| \[(\w+)\]\(#(\w+)\) \| `(\w+) (/\S+)` \|$", DOCUMENT, re.MULTILINE)
    told = {(name, method, path) for name, _, method, path in listed}
    assert told == {(route.operation_id, route.method, route.path) for route in ROUTES}
    assert all(anchor == name.lower() and name in SECTIONS for name, anchor, *_ in listed)


@each_route
def test_a_request_is_told_field_by_field(route: AnyRoute) -> None:
    told = [rows_of(table) for title, table in tables() if title == route.operation_id]
    told = [rows for rows in told if rows and all(len(row) == 4 for row in rows.values())]
    wanted = route.request_model
    if wanted is None or not wanted.model_fields:
        assert told == []
        return
    [rows] = told
    schema = schema_of(wanted, "validation")
    assert list(rows) == list(wanted.model_fields)
    for name, field in wanted.model_fields.items():
        type_told, required, absent, meaning = rows[name]
        assert (type_told, required) == (
            type_in_words(schema["properties"][name]),
            "yes" if field.is_required() else "no",
        )
        assert (absent == "refused") == field.is_required()
        assert name not in DEFAULTS or absent in {str(DEFAULTS[name]), "as before"}
        assert meaning


@each_route
def test_a_query_is_told_parameter_by_parameter(route: AnyRoute) -> None:
    told = [
        rows_of(table)
        for title, table in tables()
        if title == route.operation_id and table["kind"] == "parameter"
    ]
    assert [list(rows) for rows in told] == (
        [list(route.query.model_fields)] if route.query.model_fields else []
    )
    properties = schema_of(route.query, "validation").get("properties", {})
    for rows in told:
        for name, (type_told, _, meaning) in rows.items():
            assert type_told == type_in_words(properties[name]).removesuffix(" or null")
            assert meaning


@each_route
def test_an_answer_is_told_field_by_field(route: AnyRoute) -> None:
    assert all(f"`{answer.__name__}`" in SECTIONS[route.operation_id] for answer in route.answers)
    for name in set().union(*map(models_within, route.answers)):
        kind: type[BaseModel] = getattr(model, name)
        properties = schema_of(kind, "serialization")["properties"]
        told = {field: type_told for field, (type_told, _) in ANSWER_TABLES[name].items()}
        assert told == {field: type_in_words(schema) for field, schema in properties.items()}


def test_no_table_tells_of_a_model_that_no_function_answers() -> None:
    assert set(ANSWER_TABLES) == set().union(
        *(models_within(answer) for route in ROUTES for answer in route.answers)
    )


def test_every_closed_list_is_told_whole() -> None:
    text = SECTIONS["Closed lists of words"]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", text, re.MULTILINE))
    told = {name: set(re.findall(r"`([\w:]+)`", words)) for name, words in rows.items()}
    kinds: dict[str, type[StrEnum]] = {name: getattr(model, name) for name in told}
    assert told == {name: set(map(str, kind)) for name, kind in kinds.items()}
    cells = " ".join(cells[0] for rows in ANSWER_TABLES.values() for cells in rows.values())
    named = set(re.findall(r"`([A-Z]\w+)`", cells))
    assert named - set(ANSWER_TABLES) - {"FailureCode"} <= set(told)


@each_route
def test_the_answers_shown_are_whole_answers(route: AnyRoute) -> None:
    shown = examples_of(route)
    assert shown
    for answer in shown:
        [kind] = [kind for kind in route.answers if set(answer["data"]) == set(kind.model_fields)]
        envelope = Envelope[kind]  # type: ignore[valid-type]
        assert json.loads(envelope.model_validate(answer).model_dump_json()) == answer


def test_the_refusals_shown_are_whole_refusals() -> None:
    shown = re.findall(r"```json error\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(shown) == 2
    for text in shown:
        assert json.loads(ErrorEnvelope.model_validate_json(text).model_dump_json()) == json.loads(text)


@each_route
def test_the_call_shown_is_one_that_is_accepted(route: AnyRoute) -> None:
    [command] = re.findall(r"```sh\n(.*?)```", SECTIONS[route.operation_id], re.DOTALL)
    words = shlex.split(command.replace("\\\n", " "))
    assert words[:2] == ["curl", "-s"]
    [address] = [word for word in words if word.startswith("$RELEASEHAND_URL")]
    path, _, query = address.removeprefix("$RELEASEHAND_URL").partition("?")
    assert re.fullmatch(re.sub(r"{\w+}", r"[\\w.-]+", route.path), path)
    assert ("POST" in words) == (route.method == "POST")
    assert any(word.startswith("Authorization: Bearer") for word in words) != route.open
    for parameter in filter(None, query.split("&")):
        assert parameter.partition("=")[0] in route.query.model_fields
    if "-d" in words:
        assert route.request_model is not None
        route.request_model.model_validate_json(words[words.index("-d") + 1])


def test_the_functions_that_take_an_idempotency_key_say_so() -> None:
    told = {title for title, text in SECTIONS.items() if "Takes the header `Idempotency-Key`" in text}
    assert told == {route.operation_id for route in ROUTES if route.takes_idempotency_key}


def test_the_limits_told_are_those_of_the_code() -> None:
    text = " ".join(SECTIONS["Every call"].split())
    assert f"A body has at most {MAX_BODY_BYTES >> 20} MiB" in text
    assert f"at most {MAX_INSTANCES:,} instances" in text
    assert f"`limit` is at most {MAX_LIMIT:,}" in text
    assert f"`timeout` at most {MAX_TIMEOUT_S:,} seconds" in text
    assert f"`retry_count` at most {MAX_RETRIES}" in text
    assert f"at most {MAX_FIELD_ERRORS} `errors`" in text
    assert f"At most {MAX_WAITERS} calls wait" in text
    assert f"at most {MAX_URL_CHARS} characters" in text
    assert [wait_seconds(word) for word in re.findall(r"`(\d+(?:s|ms|m))`", text)] == [30.0, 0.5, 60.0]
    assert f"0 means {DEFAULT_LIMIT}" in SECTIONS["GetServiceInstances"]
    assert f"0 means {DEFAULT_HISTORY_LIMIT}" in SECTIONS["GetInstanceVersionHistory"]


def test_every_link_of_the_reference_leads_somewhere() -> None:
    for document in REFERENCE.glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8"))
        assert [link for link in links if not (document.parent / link).exists()] == []
