"""Every answer field of both documents, in every state that operations, tasks and instances come to."""

import re
from typing import Any

import pytest

from tests.contract.go import reach, unmarshal
from tests.contract.scenario import SERVICE, Record
from tests.contract.spec import (
    HTTP,
    INSTANCE_STATUSES,
    MAY_BE_NULL,
    PERIODS,
    STATUSES,
    AnswerField,
    answer_fields,
    answer_structs,
    request_fields,
)

FIELDS = list(answer_fields())
OPERATIONS = [("GetDeploymentStatus", "deployment"), ("GetRollbackStatus", "rollback")]


def test_the_tables_hold_every_function_of_both_documents() -> None:
    answered = {field.function for field in FIELDS}
    assert answered == set(HTTP)
    assert {field.function for field in request_fields()} == answered - {
        "GetSystemHealth"
    }  # it takes nothing


@pytest.mark.parametrize("field", FIELDS, ids=str)
def test_a_field_of_the_documents_is_there_and_decodes(record: Record, field: AnswerField) -> None:
    null_times = {path for function, path in MAY_BE_NULL if function == field.function}
    found: list[Any] = []
    for situation, data in record.answers[field.function]:
        decoded = unmarshal({field.path: field.go_type}, data, null_times=frozenset(null_times))
        found += [(situation, value) for value in decoded[field.path]]
    assert found, f"no answer had an element with {field.path}"


@pytest.mark.parametrize("function", HTTP)
def test_a_whole_answer_decodes_into_either_document_s_struct(record: Record, function: str) -> None:
    null_times = frozenset(path for name, path in MAY_BE_NULL if name == function)
    assert record.answers[function], "the scenario never calls it"
    for data in record.of(function):
        for struct in answer_structs()[function].values():
            assert set(unmarshal(struct, data, null_times=null_times)) == set(struct)


@pytest.mark.parametrize(("function", "kind"), OPERATIONS)
def test_an_operation_and_its_tasks_are_seen_in_every_state(record: Record, function: str, kind: str) -> None:
    for situation in STATUSES:
        answers = list(record.of(function, situation))
        assert answers, f"no {kind} was seen {situation}"
        assert {data["status"] for data in answers} == {situation}
    tasks = {status for data in record.of(function) for status in reach(data, "instances[].status")}
    assert tasks == set(STATUSES)


@pytest.mark.parametrize(("function", "kind"), OPERATIONS)
def test_progress_counts_the_listed_instances(record: Record, function: str, kind: str) -> None:
    for data in record.of(function):
        progress, listed = data["progress"], reach(data, "instances[].status")
        assert progress["total"] == len(listed)
        for status in ("completed", "failed", "cancelled", "in_progress"):
            assert progress[status] == listed.count(status)
        assert progress["pending"] == listed.count("pending") + listed.count("in_progress")
        ended = progress["completed"] + progress["failed"] + progress["cancelled"]
        assert progress["total"] == ended + progress["pending"]


@pytest.mark.parametrize(("function", "kind"), OPERATIONS)
def test_a_task_tells_its_version_its_error_and_its_times(record: Record, function: str, kind: str) -> None:
    for data in record.of(function):
        for task in data["instances"]:
            is_over = task["status"] in ("completed", "failed", "cancelled")
            assert task["version"] == task["current_version"]
            assert bool(task["completed_at"]) == is_over
            assert bool(task["waiting_for"]) != is_over
            assert bool(task["error_message"]) == bool(task["error_code"])
            assert bool(task["started_at"]) == bool(task["attempt"])
            if task["status"] == "failed":
                assert task["error_message"]
            if task["status"] == "completed":
                assert task["result"]
                assert not task["error_message"]
        assert (data["completed_at"] is None) == (data["status"] in ("pending", "in_progress"))
        assert data["started_at"] <= data["updated_at"]


def test_a_completed_deployment_is_live_on_every_instance(record: Record) -> None:
    for data in record.of("GetDeploymentStatus", "completed"):
        assert reach(data, "instances[].current_version") == [data["version"]] * data["progress"]["total"]


def test_rollbacks_are_of_both_types_and_previous_names_each_version(record: Record) -> None:
    answers = list(record.of("GetRollbackStatus"))
    assert {data["rollback_type"] for data in answers} == {"instance", "batch"}
    [previous] = [data for data in answers if data["target_version"] == "previous"]
    assert reach(previous, "instances[].target_version") == reach(previous, "instances[].current_version")
    assert "previous" not in reach(previous, "instances[].target_version")


@pytest.mark.parametrize(
    ("function", "own", "other"),
    [("CancelDeployment", "deploy_id", "rollback_id"), ("CancelRollback", "rollback_id", "deploy_id")],
)
def test_a_cancel_carries_both_ids_and_the_other_is_empty(
    record: Record, function: str, own: str, other: str
) -> None:
    for data in record.of(function):
        assert data[own]
        assert data[other] == ""
    assert {data["status"] for data in record.of(function, "in_progress")} == {"in_progress"}
    assert {data["status"] for data in record.of(function, "pending")} == {"cancelled"}  # nothing was sent


def test_a_task_that_its_agent_never_took_says_so(record: Record) -> None:
    [data] = [one for one in record.of("GetDeploymentStatus", "failed") if one["deploy_id"] == "deploy-late"]
    [task] = data["instances"]
    assert (task["error_code"], task["attempt"], task["started_at"]) == ("agent_offline", 0, None)
    assert "host-3" in task["error_message"]


def test_a_repeated_cancel_answers_the_first_time(record: Record) -> None:
    [first] = record.of("CancelDeployment", "in_progress")
    [again] = record.of("CancelDeployment", "repeated")
    assert again["cancelled_at"] == first["cancelled_at"]
    assert again["status"] == "cancelled"


def test_versions_leave_out_what_is_stopped_and_sum_up_what_is_listed(record: Record) -> None:
    pairs = list(record.of("GetServiceInstanceVersions"))
    for running, everything in zip(pairs[::2], pairs[1::2], strict=True):
        assert "stopped" not in reach(running, "instances[].status")
        assert "stopped" in reach(everything, "instances[].status")
        for data in (running, everything):
            versions = reach(data, "instances[].version")  # one without any counts under ""
            assert data["version_summary"] == {version: versions.count(version) for version in set(versions)}
            assert data["total_instances"] == len(data["instances"])


def test_instances_are_seen_in_every_status_with_their_host_and_port(record: Record) -> None:
    seen = set()
    for data in record.of("GetServiceInstances"):
        assert data["service"] == SERVICE
        for instance in data["instances"]:
            seen.add(instance["status"])
            assert instance["host"].endswith(".example.com")
            assert instance["port"] == 8080
            assert instance["metadata"] == {"rack": "r1"}
            assert bool(instance["status_reason"]) == (instance["status"] != "running")
    assert seen == set(INSTANCE_STATUSES)


def test_instances_are_filtered_and_paged_and_tell_the_page(record: Record) -> None:
    listings = list(record.of("GetServiceInstances"))
    for whole, running, failing, page in zip(*(listings[n::4] for n in range(4)), strict=True):
        assert (whole["total"], whole["limit"], whole["offset"]) == (4, 100, 0)
        assert (page["total"], page["limit"], page["offset"]) == (4, 1, 1)
        assert page["instances"][0]["instance_id"] == whole["instances"][1]["instance_id"]
        for filtered, status in ((running, "running"), (failing, "error")):
            expected = [one["instance_id"] for one in whole["instances"] if one["status"] == status]
            assert reach(filtered, "instances[].instance_id") == expected
            assert filtered["total"] == len(expected)


def test_history_knows_every_action_and_ending_newest_first(record: Record) -> None:
    entries = []
    for data in record.of("GetInstanceVersionHistory"):
        times = reach(data, "history[].timestamp")
        assert times == sorted(times, reverse=True)
        assert data["total"] == len(times)
        entries += data["history"]
    assert {entry["action"] for entry in entries} == {"deploy", "rollback", "revert", "drift", "adopt"}
    assert {entry["status"] for entry in entries} == {"success", "failed", "cancelled"}
    for entry in entries:
        assert (entry["deploy_id"] == "") == (entry["action"] in ("drift", "adopt"))
        assert entry["version"]


def test_health_is_told_in_its_words(record: Record) -> None:
    for data in record.of("GetSystemHealth"):
        assert data["status"] in ("healthy", "degraded")
        assert (data["database"], data["cache"]) == ("ok", "ok")
        assert re.fullmatch(r"(\d+h)?(\d+m)?\d+s", data["uptime"])


def test_stats_count_what_ended_and_what_is_well(record: Record) -> None:
    answers = list(record.of("GetSystemStats"))
    assert [data["period"] for data in answers] == list(PERIODS) * (len(answers) // len(PERIODS))
    for data in answers:
        for counts in (data["deployments"], data["rollbacks"]):
            assert counts["total"] == counts["success"] + counts["failed"] + counts["cancelled"]
            decided = counts["success"] + counts["failed"]
            assert counts["success_rate"] == (counts["success"] / decided if decided else 0.0)
        instances = data["instances"]
        assert instances["total"] == instances["healthy"] + instances["unhealthy"] == 4
    first, last = answers[0], answers[-1]
    assert first["deployments"]["total"] == first["rollbacks"]["total"] == 0
    deployments = {key: last["deployments"][key] for key in ("success", "failed", "cancelled")}
    assert deployments == {"success": 1, "failed": 3, "cancelled": 3}
    rollbacks = {key: last["rollbacks"][key] for key in ("success", "failed", "cancelled")}
    assert rollbacks == {"success": 3, "failed": 1, "cancelled": 3}


def test_an_accepted_call_says_what_was_accepted(record: Record) -> None:
    first, again = record.of("ExecuteDeployment", "deploy-good")
    assert again == first | {"status": "completed"}  # as it stands now
    assert first["total_instances"] == 2
    for data in record.of("RollbackBatch"):
        assert data["total_instances"] == len(data["instances"]) == 2
        assert data["service"] == SERVICE
