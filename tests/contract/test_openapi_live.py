"""schemathesis against the document that a running controller serves: every check, good and bad data."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from openapi_spec_validator import validate

from tests.contract import scenario
from tests.contract.spec import BEYOND, HTTP, AnswerField, RequestField, answer_fields, request_fields
from tests.contract.stage import BEARER, Stage, run_stage

ROOT: Final = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.timeout(3_600)  # the run itself is part of whichever test comes first
LEFT_OUT: Final = (
    "use_after_free",  # an instance that was retired keeps its history
    "ignored_auth",  # guesses faster than one may: 429. tests/unit/test_api_errors.py asks every route
)
PHASES: Final = ("examples", "coverage", "fuzzing", "stateful")
PLAIN: Final = {
    ("GET", path) for path in ("/livez", "/readyz", "/openapi.json", "/install.sh", "/install/{file}")
}
SERVED_BY_NAME: Final = set(HTTP.values()) | set(BEYOND.values()) | PLAIN
GO_TYPES: Final[dict[str, dict[str, Any]]] = {
    "string": {"type": "string"},
    "int": {"type": "integer"},
    "bool": {"type": "boolean"},
    "float64": {"type": "number"},
    "time.Time": {"type": "string", "format": "date-time"},
}
WHOLE: Final = os.environ.get("HYPOTHESIS_PROFILE") == "explore"
"""By `make contract`. Else bad calls are made by chance and step by step, not also at each field's edges:
tests/contract/test_spec_bad_input.py and tests/unit/test_api_bad_input.py do that."""
EXAMPLES: Final = 300 if WHOLE else 5
"""Of each operation, beside those of the document and those at the edges of its schemas."""
KEEPING: Final = {**os.environ, "HYPOTHESIS_STORAGE_DIRECTORY": str(ROOT / ".hypothesis")}
"""Where its tables of characters are kept, which take seconds to make."""
CONFIG: Final = """
[generation]
deterministic = true
max-examples = {examples}
database = "none"

[phases.coverage]
unexpected-methods = ["patch"]

[phases.coverage.generation]
mode = "{edges}"

[phases.stateful]
max-steps = 4

[dictionaries]
services.values = ["user-service"]
instances.values = ["instance-1", "instance-2", "instance-3"]
versions.values = ["v1.2.1", "v1.2.2", "v1.2.3"]
deployments.values = ["deploy-good", "deploy-regretted"]
rollbacks.values = {rollbacks}

[parameters]
"path.service" = {{ dictionary = "services", probability = 0.7 }}
"path.instance_id" = {{ dictionary = "instances", probability = 0.7 }}
"path.deploy_id" = {{ dictionary = "deployments", probability = 0.7 }}
"path.rollback_id" = {{ dictionary = "rollbacks", probability = 0.7 }}
"body.service" = {{ dictionary = "services", probability = 0.8 }}
"body.instance_id" = {{ dictionary = "instances", probability = 0.8 }}
"body.target_version" = {{ dictionary = "versions", probability = 0.5 }}
"""
"""Names that exist, so that the calls get behind the first 404; the rest is made from the schema alone. One
method that is not there stands for the others, in the whole run: tests/unit/test_api_errors.py asks every
path for one."""


@dataclass(frozen=True, slots=True)
class Run:
    """`report` is what schemathesis wrote, `said` what it printed."""

    code: int
    said: str
    report: dict[str, Any]


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    with run_stage(tmp_path_factory.mktemp("openapi"), scenario.make_fleet()) as made:
        yield made


@pytest.fixture(scope="module")
def document(stage: Stage) -> Any:
    reply = stage.call("GET", "/openapi.json", headers={"Authorization": ""})  # it is for everybody
    assert reply.status == 200
    return reply.json


@pytest.fixture(scope="module")
def run(stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """One run against a fleet that has lived through the scenario."""
    record = scenario.play(stage)
    rollbacks = [data["rollback_id"] for data in record.of("CancelRollback")]
    folder = tmp_path_factory.mktemp("schemathesis")
    (folder / "schemathesis.toml").write_text(
        CONFIG.format(
            rollbacks=json.dumps(rollbacks), examples=EXAMPLES, edges="all" if WHOLE else "positive"
        )
    )
    command = [
        *(str(Path(sys.executable).parent / "schemathesis"), "--config-file", "schemathesis.toml"),
        *(
            "run",
            f"{stage.addresses.api}/openapi.json",
            "--header",
            f"Authorization: {BEARER['Authorization']}",
        ),
        *(
            "--mode",
            "all",
            "--checks",
            "all",
            "--exclude-checks",
            ",".join(LEFT_OUT),
            "--no-color",
            "--report-json-path",
            "report.json",
        ),
    ]
    done = subprocess.run(command, cwd=folder, env=KEEPING, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr
    assert (folder / "report.json").exists(), said
    return Run(done.returncode, said, json.loads((folder / "report.json").read_text()))


def test_schemathesis_finds_no_failure(run: Run) -> None:
    assert run.code == 0, run.said


def test_schemathesis_ran_every_phase_over_every_operation(run: Run) -> None:
    assert {phase: run.report["phases"][phase]["status"] for phase in PHASES} == dict.fromkeys(
        PHASES, "success"
    )
    operations = run.report["operations"]
    assert operations["tested"] == operations["selected"] == operations["total"] >= len(HTTP)
    assert (operations["errored"], operations["skipped"]) == (0, 0)
    assert run.report["test_cases"]["generated"] > 500


@pytest.mark.parametrize("function", HTTP)
def test_schemathesis_got_behind_the_first_check_of_every_function(run: Run, function: str) -> None:
    rates = run.report["valid_rates"][" ".join(HTTP[function])]
    assert sum(phase["accepted"] for phase in rates.values()) > 0


def test_a_run_leaves_the_controller_well(run: Run, stage: Stage) -> None:
    assert stage.call("GET", "/v1/system/health").data["database"] == "ok"


# --------------------------------------------------------------------------- the document and the two specs


def test_the_document_is_openapi_3_1(document: Any) -> None:
    assert document["openapi"].startswith("3.1.")
    validate(document)


def test_the_document_lists_every_function_by_its_name(document: Any) -> None:
    operations = {
        (method.upper(), path): operation["operationId"]
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert set(operations) == SERVED_BY_NAME
    assert {name: where for where, name in operations.items() if where not in PLAIN} == HTTP | BEYOND


@pytest.mark.parametrize("field", list(answer_fields()), ids=str)
def test_an_answer_field_is_promised_with_its_type(document: Any, field: AnswerField) -> None:
    method, path = HTTP[field.function]
    answer = document["paths"][path][method.lower()]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    answer = answer.get("anyOf", [answer])[0]  # a dry run answers something of its own
    schema = resolve(document, resolve(document, answer)["properties"]["data"])
    for name in field.path.split("."):
        key = name.removesuffix("[]")
        assert key in schema["required"]
        schema = resolve(document, schema["properties"][key])
        if name.endswith("[]"):
            assert schema["type"] == "array"
            schema = resolve(document, schema["items"])
    go_type = field.go_type
    if "anyOf" in schema:
        choices = [choice for choice in schema["anyOf"] if choice != {"type": "null"}]
        is_nullable = len(choices) < len(schema["anyOf"])
        assert not is_nullable or go_type in {"*time.Time", "time.Time"}
        [schema] = [resolve(document, choice) for choice in choices]
    assert_says(schema, go_type.removeprefix("*"))


def assert_says(schema: Any, go_type: str) -> None:
    if go_type.startswith("[]"):
        assert schema["type"] == "array"
        assert_says(schema["items"], go_type[2:])
    elif go_type.startswith("map[string]"):
        assert schema["type"] == "object"
        assert_says(schema["additionalProperties"], go_type[11:])
    else:
        assert {key: schema.get(key) for key in GO_TYPES[go_type]} == GO_TYPES[go_type]


@pytest.mark.parametrize("field", list(request_fields()), ids=str)
def test_a_request_field_is_asked_for_with_its_type(document: Any, field: RequestField) -> None:
    method, path = HTTP[field.function]
    operation = document["paths"][path][method.lower()]
    if field.place == "body":
        body = resolve(document, operation["requestBody"]["content"]["application/json"]["schema"])
        assert body["additionalProperties"] is False
        assert field.need == "-" or (field.name in body["required"]) == (field.need == "required")
        assert_says(resolve(document, body["properties"][field.name]), field.go_type)
    else:
        [parameter] = [one for one in operation["parameters"] if one["name"] == field.name]
        assert (parameter["in"], parameter["required"]) == (field.place, field.place == "path")
        assert_says(resolve(document, parameter["schema"]), field.go_type)


def resolve(document: Any, schema: Any) -> Any:
    """The schema behind a `$ref`."""
    while "$ref" in schema:
        schema = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return schema
