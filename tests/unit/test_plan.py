"""What the controller sends next, for every kind of task and every kind of surroundings."""

from dataclasses import replace
from itertools import product

import pytest

from controller.core.plan import SendAgain, SendCancel, Start, Surroundings, Wait, plan
from controller.core.task import Event, Task, cancel
from releasehand.model import ENDED, Status, WaitingFor
from tests.fakes.work import TIMEOUT_S, at, make_backoff, make_dispatched, make_task

NEAR = Surroundings(connected=True, predecessor_open=False, outcome_unknown=False)
AWAY = replace(NEAR, connected=False)
EVERYWHERE = [Surroundings(*three) for three in product((False, True), repeat=3)]

CANCELLING = cancel(make_dispatched(), at(3))
assert CANCELLING is not None
KINDS = {
    "new": make_task(),
    "forced": make_task(force=True),
    "on host": make_dispatched(),
    "on a host that was away": replace(make_dispatched(), waiting_for=WaitingFor.AGENT_OFFLINE),
    "cancelling": CANCELLING.after,
    "in backoff": make_backoff(),
    "backoff over": make_backoff(retry_at=at(2)),
}


def outcome(task: Task, around: Surroundings) -> Task:
    """The task once the plan was carried out."""
    match plan(task, around, at(4)):
        case Start(move=move):
            return move.after
        case Wait(move=noted):
            return noted.after if noted else task
        case SendAgain(task=sent) | SendCancel(task=sent):
            return sent


def waits_for(task: Task, around: Surroundings, seconds: float = 4) -> WaitingFor | None:
    """What the task says it waits for once the plan was carried out; the plan must be to wait."""
    action = plan(task, around, at(seconds))
    assert isinstance(action, Wait)
    return action.move.after.waiting_for if action.move else task.waiting_for


@pytest.mark.parametrize("around", EVERYWHERE)
@pytest.mark.parametrize("status", sorted(ENDED))
def test_nothing_is_sent_for_a_task_that_has_ended(status: Status, around: Surroundings) -> None:
    assert plan(make_task(status=status), around, at(1)) == Wait(None)


def test_a_new_task_is_dispatched_to_a_connected_agent() -> None:
    action = plan(make_task(), NEAR, at(2))
    assert isinstance(action, Start)
    assert (action.move.event, action.move.after.attempt) == (Event.DISPATCHED, 1)


def test_a_new_task_of_an_agent_that_is_away_stays_pending_and_says_so() -> None:
    action = plan(make_task(), AWAY, at(2))
    assert isinstance(action, Wait)
    assert action.move is not None
    assert action.move.after == make_task(waiting_for=WaitingFor.AGENT_OFFLINE, updated_at=at(2))


def test_waiting_for_the_same_again_moves_nothing() -> None:
    assert plan(make_task(waiting_for=WaitingFor.AGENT_OFFLINE), AWAY, at(2)) == Wait(None)


@pytest.mark.parametrize("connected", [False, True])
def test_a_task_waits_behind_the_one_it_superseded(connected: bool) -> None:
    around = Surroundings(connected=connected, predecessor_open=True, outcome_unknown=False)
    assert waits_for(make_task(force=True, behind=6), around) is WaitingFor.BEHIND_OTHER_TASK


def test_an_unknown_outcome_holds_the_instance_until_force() -> None:
    around = replace(NEAR, outcome_unknown=True)
    assert waits_for(make_task(), around) is WaitingFor.AGENT_OFFLINE
    assert isinstance(plan(make_task(force=True), around, at(2)), Start)


def test_nothing_is_started_once_the_budget_is_over() -> None:
    assert isinstance(plan(make_task(), NEAR, at(TIMEOUT_S - 0.001)), Start)
    assert plan(make_task(), NEAR, at(TIMEOUT_S)) == Wait(None)


def test_a_retry_waits_for_its_time_and_then_starts_as_the_next_attempt() -> None:
    assert waits_for(make_backoff(retry_at=at(5)), NEAR, 4.999) is WaitingFor.RETRY_BACKOFF
    action = plan(make_backoff(retry_at=at(5)), NEAR, at(5))
    assert isinstance(action, Start)
    assert action.move.after.attempt == 2


def test_a_retry_whose_agent_is_away_stays_in_backoff() -> None:
    assert waits_for(make_backoff(retry_at=at(2)), AWAY) is WaitingFor.RETRY_BACKOFF


def test_what_was_sent_before_is_sent_again_from_the_row() -> None:
    task = make_dispatched()
    assert plan(task, NEAR, at(9)) == SendAgain(task)


def test_what_is_sent_again_after_its_agent_returned_no_longer_says_offline() -> None:
    action = plan(KINDS["on a host that was away"], NEAR, at(9))
    assert isinstance(action, SendAgain)
    assert action.move is not None
    assert action.task == action.move.after
    assert action.move.event is Event.NOTED
    assert (action.task.waiting_for, action.task.attempt) == (WaitingFor.AGENT_WORKING, 1)


def test_a_dispatched_task_whose_agent_is_away_stays_in_progress_and_says_so() -> None:
    action = plan(make_dispatched(), AWAY, at(9))
    assert isinstance(action, Wait)
    assert action.move is not None
    assert action.move.after.status is Status.IN_PROGRESS
    assert action.move.after.waiting_for is WaitingFor.AGENT_OFFLINE
    assert action.move.after.retries_left == make_dispatched().retries_left


def test_a_cancel_is_sent_until_it_is_confirmed_and_the_work_never_again() -> None:
    assert plan(KINDS["cancelling"], NEAR, at(9)) == SendCancel(KINDS["cancelling"])


def test_a_cancel_of_an_agent_that_is_away_waits_for_confirmation() -> None:
    assert waits_for(KINDS["cancelling"], AWAY) is WaitingFor.CANCEL_CONFIRMATION


@pytest.mark.parametrize("around", EVERYWHERE)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seconds", [4, 600])
def test_a_plan_that_only_waits_never_moves_work_on_or_off_the_host(
    kind: str, around: Surroundings, seconds: float
) -> None:
    task = KINDS[kind]
    action = plan(task, around, at(seconds))
    if isinstance(action, Wait) and action.move is not None:
        assert action.move.before == task
        assert action.move.after.is_on_host == task.is_on_host
        assert replace(action.move.after, waiting_for=task.waiting_for, updated_at=task.updated_at) == task


@pytest.mark.parametrize("around", EVERYWHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_sent_to_an_agent_that_is_away(kind: str, around: Surroundings) -> None:
    if not around.connected:
        assert isinstance(plan(KINDS[kind], around, at(4)), Wait)


@pytest.mark.parametrize("around", EVERYWHERE)
@pytest.mark.parametrize("kind", KINDS)
def test_an_open_task_always_says_what_it_waits_for(kind: str, around: Surroundings) -> None:
    assert outcome(KINDS[kind], around).waiting_for is not None
