"""The models of the interface: strict where callers write, complete where they read."""

import json
import typing
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from releasehand.model import (
    ENDED,
    OPEN,
    TRANSIENT,
    Answer,
    BatchRollbackParams,
    CancelParams,
    CancelResult,
    CreateTokenParams,
    DeployParams,
    ErrorBody,
    ErrorEnvelope,
    ErrorType,
    FailureCode,
    InstanceRollbackParams,
    JoinTokenParams,
    MoveParams,
    Request,
    RetryFailedParams,
    RevokeAgentParams,
    Status,
    Time,
    format_time,
    names,
)

MODELS = [value for value in vars(names).values() if isinstance(value, type) and issubclass(value, BaseModel)]
REQUESTS = [one for one in MODELS if issubclass(one, Request) and one is not Request]
ANSWERS = [one for one in MODELS if issubclass(one, Answer) and one is not Answer]
DEPLOYMENT: dict[str, Any] = {
    "service": "user-service",
    "version": "v1.2.3",
    "instances": ["instance-1"],
    "package_url": "https://packages.example.com/a.tar.gz",
    "deploy_id": "deploy-1",
}
INSTANCE_ROLLBACK = {"instance_id": "instance-1", "target_version": "v1.2.2"}
BATCH_ROLLBACK = {"service": "user-service", "target_version": "v1.2.2", "instances": ["instance-1"]}
REQUIRED: list[tuple[type[Request], dict[str, Any]]] = [
    (DeployParams, DEPLOYMENT),
    (InstanceRollbackParams, INSTANCE_ROLLBACK),
    (BatchRollbackParams, BATCH_ROLLBACK),
    (RetryFailedParams, {"deploy_id": "deploy-2"}),
    (MoveParams, {"agent_id": "agent-2"}),
    (CancelParams, {}),
    (CreateTokenParams, {"name": "ci", "scopes": ["deploy:read"]}),
    (JoinTokenParams, {}),
    (RevokeAgentParams, {}),
]


def test_every_request_is_in_these_tests() -> None:
    assert {one for one, _ in REQUIRED} == set(REQUESTS)


@pytest.mark.parametrize(("params", "body"), REQUIRED)
def test_what_the_spec_requires_is_required_and_the_rest_has_a_zero_value(
    params: type[Request], body: dict[str, Any]
) -> None:
    required = {name for name, field in params.model_fields.items() if field.is_required()}
    assert required == set(body)
    optional = params.model_validate(body).model_dump(exclude=required)
    assert all(not value for value in optional.values())
    for name in required:
        with pytest.raises(ValidationError, match=name):
            params.model_validate({key: value for key, value in body.items() if key != name})


@pytest.mark.parametrize(("params", "body"), REQUIRED)
def test_a_request_refuses_unknown_fields_and_cannot_be_changed(
    params: type[Request], body: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match="Extra inputs"):
        params.model_validate(body | {"extra": 1})
    for name in params.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(params.model_validate(body), name, "x")


@pytest.mark.parametrize(
    ("field", "value"),
    [("timeout", "3"), ("timeout", True), ("retry_count", 1.0), ("service", b"x"), ("version", 1)],
)
def test_a_request_turns_nothing_into_another_type(field: str, value: object) -> None:
    with pytest.raises(ValidationError, match=field):
        DeployParams.model_validate(DEPLOYMENT | {field: value})


@pytest.mark.parametrize("field", ["timeout", "retry_count"])
def test_the_bounds_of_numbers_are_part_of_what_is_accepted(field: str) -> None:
    low, high = {"timeout": (0, 86_400), "retry_count": (-1, 10)}[field]
    for value in (low, high):
        assert DeployParams.model_validate(DEPLOYMENT | {field: value}).model_dump()[field] == value
    for value in (low - 1, high + 1):
        with pytest.raises(ValidationError, match=field):
            DeployParams.model_validate(DEPLOYMENT | {field: value})


def test_the_words_of_the_system_are_no_versions_but_previous_is_a_target() -> None:
    for word in ("current", "previous"):
        with pytest.raises(ValidationError, match="a word of the system"):
            DeployParams.model_validate(DEPLOYMENT | {"version": word})
    with pytest.raises(ValidationError, match="a word of the system"):
        InstanceRollbackParams.model_validate(INSTANCE_ROLLBACK | {"target_version": "current"})
    params = InstanceRollbackParams.model_validate(INSTANCE_ROLLBACK | {"target_version": "previous"})
    assert params.target_version == "previous"


def test_an_instance_named_twice_is_named_in_the_error() -> None:
    with pytest.raises(ValidationError, match="'b' is named more than once"):
        DeployParams.model_validate(DEPLOYMENT | {"instances": ["a", "b", "b", "a"]})


def test_a_digest_is_compared_in_lower_case() -> None:
    assert DeployParams.model_validate(DEPLOYMENT | {"package_sha256": "AB" * 32}).package_sha256 == "ab" * 32


@pytest.mark.parametrize(
    "time",
    [
        datetime(2026, 11, 21, 12, 0, 0, 5_999, UTC),
        datetime(2026, 11, 21, 20, 0, 0, 5_000, timezone(timedelta(hours=8))),
    ],
)
def test_a_time_is_written_in_utc_with_z_and_read_back(time: datetime) -> None:
    adapter: TypeAdapter[datetime] = TypeAdapter(Time)
    written = adapter.dump_json(time).decode()
    assert written == '"2026-11-21T12:00:00.005Z"'
    assert written == json.dumps(format_time(time))
    assert abs(adapter.validate_json(written) - time) < timedelta(milliseconds=1)


def test_a_time_without_a_zone_is_refused() -> None:
    adapter: TypeAdapter[datetime] = TypeAdapter(Time)
    with pytest.raises(ValidationError, match="timezone"):
        adapter.validate_json('"2026-11-21T12:00:00"')


@pytest.mark.parametrize("answer", ANSWERS)
def test_lists_and_maps_of_answers_are_never_null(answer: type[Answer]) -> None:
    for name, field in answer.model_fields.items():
        parts = {
            typing.get_origin(part) or part for part in (field.annotation, *typing.get_args(field.annotation))
        }
        if parts & {list, dict}:
            assert type(None) not in parts, name


@pytest.mark.parametrize("answer", ANSWERS)
def test_an_older_client_reads_what_a_newer_controller_adds(answer: type[Answer]) -> None:
    assert answer.model_config["extra"] == "ignore"


def test_a_cancel_answers_both_ids_the_other_one_empty() -> None:
    result = CancelResult(
        deploy_id="d", status=Status.IN_PROGRESS, cancelled_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    assert json.loads(result.model_dump_json()) == {
        "deploy_id": "d",
        "rollback_id": "",
        "status": "in_progress",
        "cancelled_at": "2026-01-01T00:00:00.000Z",
    }


def test_an_error_envelope_reads_back_as_it_was_written() -> None:
    error = ErrorBody(type=ErrorType.INVALID_REQUEST, detail="d", errors=[], request_id="r", retryable=False)
    envelope = ErrorEnvelope(code=400, message="bad request", error=error)
    assert json.loads(envelope.model_dump_json())["data"] is None
    assert ErrorEnvelope.model_validate_json(envelope.model_dump_json()) == envelope


def test_each_status_is_open_or_ended() -> None:
    assert set(Status) == OPEN | ENDED
    assert not OPEN & ENDED


def test_what_may_be_tried_again_is_a_failure_of_the_way_not_of_the_package() -> None:
    final = {FailureCode.ARCHIVE_REFUSED, FailureCode.SIGNATURE_INVALID, FailureCode.CHECK_FAILED}
    assert FailureCode.DOWNLOAD_FAILED in TRANSIENT
    assert not final & TRANSIENT


def test_the_package_gives_the_names_that_it_lists_and_no_other() -> None:
    package = import_module("releasehand.model")
    assert {name: getattr(package, name) for name in package.__all__} == {
        name: getattr(names, name) for name in names.__all__
    }
    assert set(names.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="has no attribute 'Deploiment'"):
        package.Deploiment  # noqa: B018
