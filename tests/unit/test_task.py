"""The task's machine, and the moves that people and time make."""

from dataclasses import replace
from datetime import timedelta
from itertools import product

import pytest

from controller.core.task import (
    TRANSITIONS,
    Event,
    advance,
    cancel,
    closing_time,
    dispatch,
    expire,
    fail,
)
from releasehand.model import ENDED, OPEN, FailureCode, Phase, Status, WaitingFor
from shared.attempt import LIVE, PAST_NO_RETURN, UnlistedMoveError
from tests.fakes.work import BOUND_S, TIMEOUT_S, at, make_backoff, make_dispatched, make_task

UNLISTED = [pair for pair in product(Status, Event) if pair not in TRANSITIONS]
TICK = timedelta(microseconds=1)


@pytest.mark.parametrize(("status", "event"), list(TRANSITIONS))
def test_a_listed_move_leads_where_the_table_says(status: Status, event: Event) -> None:
    assert advance(status, event) is TRANSITIONS[status, event]


@pytest.mark.parametrize(("status", "event"), UNLISTED)
def test_an_unlisted_move_raises_and_names_itself(status: Status, event: Event) -> None:
    before = dict(TRANSITIONS)
    with pytest.raises(UnlistedMoveError) as caught:
        advance(status, event)
    assert (caught.value.machine, caught.value.state, caught.value.event) == ("task", status, event)
    assert dict(TRANSITIONS) == before


@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_task_has_no_way_out(status: Status) -> None:
    """A note on an unknown outcome changes what is written on it, not where it stands."""
    assert {to for (left, _), to in TRANSITIONS.items() if left is status} <= {status}


@pytest.mark.parametrize("status", sorted(OPEN))
def test_an_open_task_can_always_fail_or_be_cancelled(status: Status) -> None:
    assert advance(status, Event.FAILED) is Status.FAILED
    assert advance(status, Event.CANCELLED) is Status.CANCELLED


def test_a_task_completes_only_after_it_was_dispatched() -> None:
    assert [status for (status, _), to in TRANSITIONS.items() if to is Status.COMPLETED] == [
        Status.IN_PROGRESS
    ]


@pytest.mark.parametrize("status", sorted(ENDED))
def test_an_ended_task_is_neither_dispatched_nor_failed_and_stays_as_it_was(status: Status) -> None:
    task = make_task(status=status, completed_at=at(9))
    with pytest.raises(UnlistedMoveError):
        dispatch(task, at(10))
    with pytest.raises(UnlistedMoveError):
        fail(task, FailureCode.INSTANCE_RETIRED, "gone", at(10))
    assert cancel(task, at(10)) is None
    assert expire(task, at(9_999)) is None
    assert task == make_task(status=status, completed_at=at(9))


# dispatch


def test_a_dispatch_starts_the_first_attempt_and_says_who_works() -> None:
    move = dispatch(make_task(), at(3))
    assert move.before == make_task()
    after = move.after
    assert (after.status, after.attempt, after.phase) == (Status.IN_PROGRESS, 1, Phase.QUEUED)
    assert after.waiting_for is WaitingFor.AGENT_WORKING
    assert after.started_at == after.updated_at == at(3)
    assert move.event is Event.DISPATCHED


def test_a_second_dispatch_counts_up_and_keeps_the_first_start() -> None:
    after = dispatch(make_backoff(), at(6)).after
    assert (after.attempt, after.started_at, after.retry_at) == (2, at(1), None)


def test_a_second_attempt_forgets_the_failure_of_the_first_except_for_counting() -> None:
    after = dispatch(make_backoff(), at(6)).after
    assert (after.error_code, after.error_message) == (None, "")
    assert after.last_code is FailureCode.DOWNLOAD_FAILED


def test_a_dispatched_task_is_closed_half_a_minute_after_its_budget() -> None:
    assert dispatch(make_task(), at(3)).after.closes_at == at(TIMEOUT_S + 30)


@pytest.mark.parametrize("phase", sorted(LIVE))
def test_only_a_task_past_the_point_of_no_return_gets_both_bounds_more(phase: Phase) -> None:
    more = BOUND_S if phase in PAST_NO_RETURN else 0
    assert closing_time(make_task(), phase) == at(TIMEOUT_S + more + 30)


def test_only_an_attempt_that_was_sent_and_has_not_ended_is_on_the_host() -> None:
    assert make_dispatched().is_on_host
    assert not make_task().is_on_host
    assert not make_backoff().is_on_host
    assert not make_task(status=Status.COMPLETED).is_on_host


# cancel


@pytest.mark.parametrize("waiting", [None, WaitingFor.AGENT_OFFLINE, WaitingFor.BEHIND_OTHER_TASK])
def test_a_cancel_of_what_was_never_sent_ends_it_at_once(waiting: WaitingFor | None) -> None:
    move = cancel(make_task(waiting_for=waiting), at(4))
    assert move is not None
    assert move.event is Event.CANCELLED
    assert (move.after.status, move.after.waiting_for) == (Status.CANCELLED, None)
    assert move.after.cancel_asked_at == move.after.completed_at == at(4)


def test_a_cancel_between_two_attempts_ends_it_at_once() -> None:
    move = cancel(make_backoff(), at(4))
    assert move is not None
    assert (move.after.status, move.after.retry_at) == (Status.CANCELLED, None)
    assert (move.after.error_code, move.after.error_message) == (None, "")  # a cancel is no failure


@pytest.mark.parametrize("waiting", [WaitingFor.AGENT_WORKING, WaitingFor.AGENT_OFFLINE])
def test_a_cancel_of_what_is_on_the_host_waits_for_its_word(waiting: WaitingFor) -> None:
    task = replace(make_dispatched(), waiting_for=waiting)
    move = cancel(task, at(4))
    assert move is not None
    assert move.after == replace(
        task, waiting_for=WaitingFor.CANCEL_CONFIRMATION, cancel_asked_at=at(4), updated_at=at(4)
    )


def test_a_repeated_cancel_changes_nothing() -> None:
    first = cancel(make_dispatched(), at(4))
    assert first is not None
    assert cancel(first.after, at(5)) is None


# time


@pytest.mark.parametrize("task", [make_task(), make_dispatched(), make_backoff()])
def test_nothing_expires_before_its_closing_time(task: object) -> None:
    assert isinstance(task, type(make_task()))
    assert expire(task, task.closes_at - TICK) is None
    assert expire(task, task.closes_at) is not None


def test_what_was_never_sent_fails_as_agent_offline() -> None:
    move = expire(make_task(waiting_for=WaitingFor.AGENT_OFFLINE), at(TIMEOUT_S))
    assert move is not None
    assert (move.after.status, move.after.error_code) == (Status.FAILED, FailureCode.AGENT_OFFLINE)
    assert "agent-1" in move.after.error_message
    assert move.after.waiting_for is None
    assert move.after.completed_at == at(TIMEOUT_S)


def test_what_never_came_past_its_predecessor_fails_as_timeout() -> None:
    move = expire(make_task(behind=6, waiting_for=WaitingFor.BEHIND_OTHER_TASK), at(TIMEOUT_S))
    assert move is not None
    assert move.after.error_code is FailureCode.TIMEOUT
    assert "the task before it" in move.after.error_message


def test_what_came_past_its_predecessor_and_found_no_agent_fails_as_agent_offline() -> None:
    move = expire(make_task(behind=6, waiting_for=WaitingFor.AGENT_OFFLINE), at(TIMEOUT_S))
    assert move is not None
    assert move.after.error_code is FailureCode.AGENT_OFFLINE


def test_between_two_attempts_time_runs_out_as_timeout() -> None:
    move = expire(make_backoff(), at(TIMEOUT_S))
    assert move is not None
    assert (move.after.status, move.after.error_code) == (Status.FAILED, FailureCode.TIMEOUT)


@pytest.mark.parametrize(
    "waiting", [WaitingFor.AGENT_WORKING, WaitingFor.AGENT_OFFLINE, WaitingFor.CANCEL_CONFIRMATION]
)
def test_a_silent_host_leaves_the_outcome_unknown(waiting: WaitingFor) -> None:
    task = replace(make_dispatched(), waiting_for=waiting)
    move = expire(task, task.closes_at)
    assert move is not None
    assert (move.after.status, move.after.error_code) == (Status.FAILED, FailureCode.OUTCOME_UNKNOWN)
    assert move.after.phase is Phase.QUEUED
