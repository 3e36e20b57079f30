"""What reports do to tasks: which count, which are rejected, and where they lead."""

from dataclasses import replace
from typing import Any

import pytest

from controller.core.report import Applied, Effect, Late, Rejected, apply
from controller.core.task import Event, Task, cancel, expire, fail
from releasehand.model import ENDED, FailureCode, Phase, Status, TaskResult, WaitingFor
from shared.attempt import LIVE, PAST_NO_RETURN, TERMINAL, TRANSITIONS, Outcome
from shared.frames import Move
from tests.fakes.work import (
    AGENT,
    BOUND_S,
    TIMEOUT_S,
    at,
    make_backoff,
    make_dispatched,
    make_end,
    make_report,
    make_task,
)

TRANSIENT_END = make_end(FailureCode.DOWNLOAD_FAILED, "connection cut")


def tell(task: Task | None, report: Move, *, agent_id: str = AGENT, seconds: float = 10) -> Effect:
    return apply(task, report, agent_id=agent_id, now=at(seconds), chance=0.5)


def moved(task: Task, entered: Phase, **said: Any) -> Task:
    """The task after a report that must count."""
    effect = tell(task, make_report(entered, task=task, **said))
    assert isinstance(effect, Applied)
    assert effect.move.before == task
    return effect.move.after


def given_up() -> Task:
    """A task whose agent was silent at the deadline."""
    task = make_dispatched()
    move = expire(task, task.closes_at)
    assert move is not None
    return move.after


def asked_to_cancel() -> Task:
    move = cancel(make_dispatched(), at(5))
    assert move is not None
    return move.after


# reports that count


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_phase_is_recorded_and_the_task_stays_in_progress(phase: Phase) -> None:
    after = moved(make_dispatched(), phase)
    assert (after.status, after.phase, after.updated_at) == (Status.IN_PROGRESS, phase, at(10))
    assert after.waiting_for is WaitingFor.AGENT_WORKING


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_past_the_point_of_no_return_the_task_gets_the_hosts_bounds(phase: Phase) -> None:
    more = BOUND_S if phase in PAST_NO_RETURN else 0
    assert moved(make_dispatched(), phase).closes_at == at(TIMEOUT_S + more + 30)


def test_a_report_from_an_agent_that_was_away_says_that_it_works() -> None:
    away = replace(make_dispatched(), waiting_for=WaitingFor.AGENT_OFFLINE)
    assert moved(away, Phase.VERIFYING).waiting_for is WaitingFor.AGENT_WORKING


def test_a_report_while_a_cancel_is_on_its_way_still_waits_for_its_confirmation() -> None:
    assert moved(asked_to_cancel(), Phase.UNPACKING).waiting_for is WaitingFor.CANCEL_CONFIRMATION


def test_done_completes_the_task_and_leaves_no_error() -> None:
    second = replace(make_dispatched(attempt=1), error_code=FailureCode.DOWNLOAD_FAILED, error_message="cut")
    after = moved(second, Phase.DONE)
    assert (after.status, after.result, after.completed_at) == (
        Status.COMPLETED,
        TaskResult.DOWNLOADED,
        at(10),
    )
    assert (after.error_code, after.error_message, after.waiting_for) == (None, "", None)


def test_done_completes_the_task_even_if_a_cancel_came_too_late() -> None:
    assert moved(asked_to_cancel(), Phase.DONE).status is Status.COMPLETED


@pytest.mark.parametrize("task", [make_dispatched(), asked_to_cancel()])
def test_cancelled_by_the_host_is_cancelled(task: Task) -> None:
    after = moved(task, Phase.CANCELLED, end=make_end())
    assert (after.status, after.completed_at, after.waiting_for) == (Status.CANCELLED, at(10), None)


@pytest.mark.parametrize("phase", [Phase.FAILED, Phase.REVERTED, Phase.BROKEN])
def test_a_final_failure_fails_the_task_with_the_hosts_code_and_words(phase: Phase) -> None:
    after = moved(make_dispatched(), phase, end=make_end(FailureCode.CHECK_FAILED, "HTTP 503"))
    assert (after.status, after.error_code, after.error_message) == (
        Status.FAILED,
        FailureCode.CHECK_FAILED,
        "HTTP 503",
    )
    assert (after.completed_at, after.waiting_for) == (at(10), None)


def test_a_failure_without_words_still_has_a_code_and_a_message() -> None:
    after = moved(make_dispatched(), Phase.FAILED, end=make_end())
    assert (after.error_code, after.error_message) == (FailureCode.HOST_ERROR, "host_error")


@pytest.mark.parametrize("phase", [Phase.REVERTED, Phase.BROKEN])
def test_what_touched_the_host_is_never_retried_nor_called_cancelled(phase: Phase) -> None:
    for task in (make_dispatched(), asked_to_cancel()):
        assert moved(task, phase, end=TRANSIENT_END).status is Status.FAILED


def test_a_transient_failure_schedules_the_next_attempt() -> None:
    after = moved(make_dispatched(), Phase.FAILED, end=TRANSIENT_END)
    assert (after.status, after.waiting_for) == (Status.IN_PROGRESS, WaitingFor.RETRY_BACKOFF)
    assert (after.retries_left, after.last_code) == (2, FailureCode.DOWNLOAD_FAILED)
    assert after.retry_at == at(11)
    assert after.closes_at == after.deadline_at
    assert after.completed_at is None


def test_a_transient_failure_without_a_retry_left_is_final() -> None:
    after = moved(make_dispatched(retries_left=0), Phase.FAILED, end=TRANSIENT_END)
    assert (after.status, after.error_code) == (Status.FAILED, FailureCode.DOWNLOAD_FAILED)


def test_a_bad_digest_is_tried_once_more_and_no_further() -> None:
    end = make_end(FailureCode.DIGEST_MISMATCH, "sha256 differs")
    first = moved(make_dispatched(), Phase.FAILED, end=end)
    assert first.waiting_for is WaitingFor.RETRY_BACKOFF
    again = replace(make_dispatched(retries_left=first.retries_left, last_code=first.last_code), attempt=2)
    assert moved(again, Phase.FAILED, end=end).status is Status.FAILED


def test_a_failure_while_a_cancel_was_on_its_way_starts_no_further_attempt() -> None:
    after = moved(asked_to_cancel(), Phase.FAILED, end=TRANSIENT_END)
    assert (after.status, after.error_code) == (Status.CANCELLED, FailureCode.DOWNLOAD_FAILED)


def test_a_command_that_the_host_refuses_as_stale_fails_the_task() -> None:
    task = make_dispatched()
    end = make_end(FailureCode.STALE_COMMAND, "generation 9 was accepted before")
    refused = make_report(Phase.FAILED, task=task, left=None, outcome=Outcome.FAILED, end=end)
    effect = tell(task, refused)
    assert isinstance(effect, Applied)
    assert effect.move.after.error_code is FailureCode.STALE_COMMAND


def test_a_report_that_follows_lost_ones_counts_all_the_same() -> None:
    """The recorder may have rejected or lost what came between; the host's newest word is the truth."""
    assert moved(make_dispatched(), Phase.CHECKING).phase is Phase.CHECKING


# reports that do not count


def rejected(effect: Effect) -> str:
    assert isinstance(effect, Rejected)
    assert effect.reason
    return effect.reason


def test_a_report_of_a_task_that_does_not_exist_is_rejected() -> None:
    assert "no task 7" in rejected(tell(None, make_report(Phase.DONE, task=make_dispatched())))


def test_a_report_of_another_agents_task_is_rejected() -> None:
    task = make_dispatched()
    rejected(tell(task, make_report(Phase.DONE, task=task), agent_id="agent-2"))


def test_a_report_of_another_instance_is_rejected() -> None:
    task = make_dispatched()
    rejected(tell(task, make_report(Phase.DONE, task=task, instance_id="user-2")))


@pytest.mark.parametrize("said", [{"generation": 3}, {"generation": 5}, {"attempt": 2}])
def test_a_report_of_another_generation_or_attempt_is_rejected(said: dict[str, Any]) -> None:
    task = make_dispatched()
    rejected(tell(task, make_report(Phase.DONE, task=task, **said)))


def test_a_report_of_an_older_attempt_does_not_touch_the_present_one() -> None:
    task = replace(make_dispatched(), attempt=2)
    rejected(tell(task, make_report(Phase.FAILED, task=task, attempt=1)))


@pytest.mark.parametrize("phase", sorted(TERMINAL))
def test_an_end_without_its_result_is_rejected(phase: Phase) -> None:
    task = make_dispatched()
    rejected(tell(task, make_report(phase, task=task).model_copy(update={"end": None})))


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_result_without_an_end_is_rejected(phase: Phase) -> None:
    task = make_dispatched()
    rejected(tell(task, make_report(phase, task=task, end=make_end())))


IMPOSSIBLE = [
    (left, outcome, entered)
    for left in Phase
    for outcome in Outcome
    for entered in Phase
    if TRANSITIONS.get((left, outcome)) is not entered
]


def test_every_move_that_the_table_does_not_list_is_rejected() -> None:
    task = make_dispatched()
    for left, outcome, entered in IMPOSSIBLE:
        end = make_end() if entered in TERMINAL else None
        report = make_report(entered, task=task, left=left, outcome=outcome, end=end)
        assert "no attempt goes" in rejected(tell(task, report)), (left, outcome, entered)


@pytest.mark.parametrize("entered", sorted(Phase))
@pytest.mark.parametrize("status", sorted(ENDED))
def test_a_task_that_has_ended_takes_no_further_report(status: Status, entered: Phase) -> None:
    task = replace(make_dispatched(), status=status, error_code=FailureCode.TIMEOUT, completed_at=at(9))
    rejected(tell(task, make_report(entered, task=task)))


@pytest.mark.parametrize("entered", sorted(Phase))
def test_between_two_attempts_no_report_is_expected(entered: Phase) -> None:
    rejected(tell(make_backoff(), make_report(entered, task=make_backoff())))


@pytest.mark.parametrize("entered", sorted(Phase))
def test_a_task_that_was_never_sent_takes_no_report(entered: Phase) -> None:
    rejected(tell(make_task(), make_report(entered, task=make_dispatched())))
    never_sent = replace(make_task(), attempt=1)
    rejected(tell(never_sent, make_report(entered, task=never_sent)))


# the truth about an unknown outcome


@pytest.mark.parametrize("entered", sorted(TERMINAL))
def test_a_late_end_is_recorded_beside_the_status(entered: Phase) -> None:
    task = given_up()
    effect = tell(task, make_report(entered, task=task), seconds=900)
    assert isinstance(effect, Late)
    after = effect.move.after
    assert (after.status, after.error_code) == (Status.FAILED, FailureCode.OUTCOME_UNKNOWN)
    assert after.completed_at == task.completed_at
    assert (after.phase, effect.move.event) == (entered, Event.NOTED)
    assert effect.succeeded == (entered is Phase.DONE)


def test_a_late_end_says_in_the_message_what_is_live() -> None:
    task = given_up()
    effect = tell(
        task, make_report(Phase.REVERTED, task=task, end=make_end(FailureCode.CHECK_FAILED, live="v1"))
    )
    assert isinstance(effect, Late)
    assert "reverted (check_failed); v1 is live" in effect.move.after.error_message


def test_a_late_end_of_a_host_with_nothing_installed_says_so() -> None:
    task = given_up()
    effect = tell(task, make_report(Phase.FAILED, task=task, end=make_end(FailureCode.NO_SPACE, live="")))
    assert isinstance(effect, Late)
    assert "nothing is live" in effect.move.after.error_message


def test_the_truth_is_recorded_once() -> None:
    task = given_up()
    first = tell(task, make_report(Phase.DONE, task=task))
    assert isinstance(first, Late)
    again = first.move.after
    rejected(tell(again, make_report(Phase.DONE, task=again, n=2)))


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_a_late_phase_that_is_no_end_changes_nothing(phase: Phase) -> None:
    task = given_up()
    rejected(tell(task, make_report(phase, task=task)))


def test_the_end_of_a_retired_instances_task_changes_nothing() -> None:
    task = fail(make_dispatched(), FailureCode.INSTANCE_RETIRED, "gone", at(3)).after
    rejected(tell(task, make_report(Phase.DONE, task=task)))
