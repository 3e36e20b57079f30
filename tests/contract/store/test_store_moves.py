"""How tasks move: cancelled, superseded, expired, and never from where they no longer are."""

from dataclasses import replace

import pytest

from controller.core.plan import Start, Surroundings, plan
from controller.core.refusals import AlreadyEndedError, UnknownOperationError
from controller.core.task import Event, TaskMove
from controller.store import StaleMoveError
from controller.store.tables import EVENT, INSTANCE, OPERATION, TASK
from releasehand.model import FailureCode, OperationKind, Phase, Status, WaitingFor
from shared.attempt import Outcome
from tests.fakes.ledger import (
    ACTOR,
    FULL,
    Ledger,
    ended,
    listed,
)

O, W = Outcome, WaitingFor
NOT_STARTED = [O.OK, O.CANCELLED]
REVERTED = [O.OK, O.OK, O.OK, O.OK, O.OK, O.FAILED, O.OK]


# compare-and-set


async def test_a_move_from_where_the_row_no_longer_is_stores_nothing(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    accepted = await ledger.deploy("v2", ["a", "b"])
    a, b = await ledger.tasks(accepted.task_ids)
    starts = []
    for task in (a, b):
        action = plan(task, Surroundings(True, False, False), ledger.clock.now())
        assert isinstance(action, Start)
        starts.append(action.move)
    await ledger.store.move([starts[0]])
    with pytest.raises(StaleMoveError):
        await ledger.store.move(starts)
    assert (await ledger.task(b.id)).attempt == 0


async def test_a_note_on_a_task_does_not_undo_a_cancel_that_came_between(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    note = replace(task, waiting_for=W.AGENT_OFFLINE)
    await ledger.cancel("d-v2")
    with pytest.raises(StaleMoveError):
        await ledger.store.move([TaskMove(task, note, Event.NOTED)])
    assert (await ledger.task(task.id)).cancel_asked_at is not None


async def test_a_note_on_a_task_does_not_undo_a_phase_that_was_reported_between(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    note = replace(task, waiting_for=W.AGENT_OFFLINE)
    await host.work(task, [O.OK] * 5)
    with pytest.raises(StaleMoveError):
        await ledger.store.move([TaskMove(task, note, Event.NOTED)])
    now = await ledger.task(task.id)
    assert (now.phase, now.closes_at > task.closes_at) == (Phase.ACTIVATING, True)


async def test_a_note_on_a_task_does_not_undo_that_it_was_superseded(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    await ledger.cancel("d-v2")
    asked = await ledger.task(task.id)
    await ledger.roll_back("a", "v1", force=True)
    with pytest.raises(StaleMoveError):
        await ledger.store.move([TaskMove(asked, replace(asked, waiting_for=W.AGENT_OFFLINE), Event.NOTED)])
    assert (await ledger.task(task.id)).superseded_by is not None


# cancel


async def test_cancelling_ends_what_was_not_sent_and_waits_for_the_rest(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    accepted = await ledger.deploy("v2", ["a", "b"], "d1")
    await ledger.dispatch(accepted.task_ids[:1])
    ledger.clock.advance(5)
    cancelled = await ledger.cancel("d1")
    assert cancelled.result.status is Status.IN_PROGRESS
    assert cancelled.result.cancelled_at == ledger.clock.now()
    a, b = await ledger.tasks(accepted.task_ids)
    assert (a.status, a.waiting_for) == (Status.IN_PROGRESS, W.CANCEL_CONFIRMATION)
    assert (b.status, b.waiting_for, b.completed_at) == (Status.CANCELLED, None, ledger.clock.now())
    assert cancelled.task_ids == [a.id]
    assert await ledger.history("b") == [("v1", "adopt", "success")]


async def test_a_confirmed_cancel_ends_the_operation_and_is_in_the_history(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1")
    first = await ledger.cancel("d1")
    await host.work(task, NOT_STARTED, ended("v1"))
    ledger.clock.advance(60)
    status = await ledger.status("d1")
    assert (status.status, status.cancelled_at) == (Status.CANCELLED, first.result.cancelled_at)
    assert await ledger.history("a") == [("v1", "adopt", "success"), ("v2", "deploy", "cancelled")]
    again = await ledger.cancel("d1")
    assert (again.result.cancelled_at, again.result.status) == (first.result.cancelled_at, Status.CANCELLED)
    assert again.task_ids == []


async def test_a_cancel_that_came_too_late_leaves_the_truth(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1")
    await ledger.cancel("d1")
    await host.work(task)
    status = await ledger.status("d1")
    assert (status.status, status.instances[0].status) == (Status.COMPLETED, Status.COMPLETED)
    assert status.cancelled_at is not None


async def test_what_ended_with_no_cancel_asked_cannot_be_cancelled(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await host.work(await ledger.start("v2", "a", deploy_id="d1"))
    with pytest.raises(AlreadyEndedError) as refused:
        await ledger.cancel("d1")
    assert (refused.value.kind, refused.value.status) == (OperationKind.DEPLOYMENT, Status.COMPLETED)
    assert (await ledger.status("d1")).cancelled_at is None


async def test_each_kind_cancels_its_own_ids_only(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.deploy("v2", ["a"], "d1")
    with pytest.raises(UnknownOperationError):
        await ledger.store.cancel(OperationKind.ROLLBACK, "d1", actor=ACTOR)


async def test_a_cancel_in_backoff_ends_at_once(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1")
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    assert (await ledger.task(task.id)).waiting_for is W.RETRY_BACKOFF
    assert (await ledger.cancel("d1")).result.status is Status.CANCELLED


# force


async def test_force_names_the_operations_that_it_ended(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    await ledger.deploy("v2", ["a"])
    forced = await ledger.roll_back("a", "v1", force=True)
    assert list(forced.changed) == [(OperationKind.DEPLOYMENT, "d-v2")]
    assert (await ledger.status("d-v2")).status is Status.CANCELLED


async def test_force_supersedes_what_runs_and_waits_for_its_end(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    old = await ledger.start("v2", "a", deploy_id="d1")
    forced = await ledger.roll_back("a", "v1", force=True)
    new_id = next(one for one in forced.task_ids if one != old.id)
    assert set(forced.task_ids) == {old.id, new_id}
    old = await ledger.task(old.id)
    assert (old.superseded_by, old.waiting_for) == (new_id, W.CANCEL_CONFIRMATION)
    [new] = await ledger.dispatch([new_id])
    assert (new.status, new.waiting_for, new.generation) == (Status.PENDING, W.BEHIND_OTHER_TASK, 2)
    recorded = await host.work(old, NOT_STARTED, ended("v1"))
    assert recorded.changed.woken == [new_id]
    [new] = await ledger.dispatch([new_id])
    assert (new.status, new.attempt) == (Status.IN_PROGRESS, 1)
    assert (await ledger.status("d1")).status is Status.CANCELLED


async def test_forcing_twice_keeps_waiting_for_what_is_on_the_host(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    first = await ledger.start("v2", "a", deploy_id="d1")
    second_id = max((await ledger.roll_back("a", "v1", force=True)).task_ids)
    forced = await ledger.roll_back("a", "v0", force=True)
    third_id = max(forced.task_ids)
    second, third = await ledger.tasks([second_id, third_id])
    assert (second.status, second.superseded_by) == (Status.CANCELLED, third_id)
    assert (third.behind, third.waiting_for) == (first.id, W.BEHIND_OTHER_TASK)
    [third] = await ledger.dispatch([third_id])
    assert third.status is Status.PENDING
    recorded = await host.work(first, NOT_STARTED, ended("v1"))
    assert third_id in recorded.changed.woken
    [third] = await ledger.dispatch([third_id])
    assert (third.status, third.generation) == (Status.IN_PROGRESS, 3)


async def test_forcing_over_what_was_not_sent_starts_at_once(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a", "b"], "v1")
    await ledger.deploy("v2", ["a", "b"], "d1")
    forced = await ledger.roll_back_batch("v1", ["a", "b"], force=True)
    moved = await ledger.dispatch(forced.task_ids)
    assert {task.status for task in moved if task.kind is OperationKind.ROLLBACK} == {Status.IN_PROGRESS}
    assert (await ledger.status("d1")).status is Status.CANCELLED


async def test_force_without_anything_open_is_an_ordinary_rollback(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    [task] = await ledger.tasks((await ledger.roll_back("a", "v0", force=True)).task_ids)
    assert (task.behind, task.force) == (None, True)


# time


async def test_an_agent_that_never_came_fails_its_task_at_the_timeout(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    accepted = await ledger.deploy("v2", ["a"], "d1", timeout=60)
    await ledger.dispatch(accepted.task_ids, connected=False)
    assert (await ledger.expire_after(59)).operations == []
    assert (await ledger.expire_after(1)).operations == [(OperationKind.DEPLOYMENT, "d1")]
    one = await ledger.instance("d1", "a")
    assert (one.status, one.error_code, one.attempt) == (Status.FAILED, FailureCode.AGENT_OFFLINE, 0)
    assert await ledger.history("a") == [("v1", "adopt", "success")]


async def test_a_budget_that_ends_in_backoff_is_a_timeout(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1", timeout=60)
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    await ledger.expire_after(60)
    assert (await ledger.instance("d1", "a")).error_code == FailureCode.TIMEOUT
    assert (await ledger.history("a"))[-1] == ("v2", "deploy", "failed")


async def test_a_silent_agent_leaves_an_unknown_outcome_that_holds_its_instance(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1", timeout=60)
    await host.work(task, [O.OK] * 5)  # it reached activating
    assert (await ledger.expire_after(60 + 240 + 29)).operations == []
    await ledger.expire_after(1)
    one = await ledger.instance("d1", "a")
    assert (one.status, one.error_code) == (Status.FAILED, FailureCode.OUTCOME_UNKNOWN)
    assert (await ledger.history("a"))[-1] == ("v2", "deploy", "unknown")
    next_one = await ledger.deploy("v3", ["a"], "d2")
    [held] = await ledger.dispatch(next_one.task_ids)
    assert (held.status, held.waiting_for) == (Status.PENDING, W.AGENT_OFFLINE)
    forced = await ledger.roll_back("a", "v1", force=True)
    moved = await ledger.dispatch(forced.task_ids)
    assert Status.IN_PROGRESS in {one.status for one in moved}


@pytest.mark.parametrize(
    ("path", "end", "entries"),
    [
        (FULL, ended("v2"), [("v2", "deploy", "success")]),
        (
            REVERTED,
            ended("v1", FailureCode.CHECK_FAILED),
            [("v2", "deploy", "failed"), ("v1", "revert", "success")],
        ),
        (NOT_STARTED, ended("v1"), [("v2", "deploy", "cancelled")]),
    ],
    ids=["done", "reverted", "cancelled"],
)
async def test_the_late_truth_is_recorded_everywhere(
    ledger: Ledger, path: list[Outcome], end: object, entries: list[tuple[str, str, str]]
) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", deploy_id="d1", timeout=60)
    moves = host.moves(task, path, end)  # type: ignore[arg-type]
    await ledger.expire_after(90)
    await host.tell(moves)
    one = await ledger.instance("d1", "a")
    assert (one.status, one.error_code) == (Status.FAILED, FailureCode.OUTCOME_UNKNOWN)
    assert "the agent has since said" in one.error_message
    assert one.current_version == ("v2" if path is FULL else "v1")
    assert (await ledger.history("a"))[2:] == entries
    [row] = await ledger.rows(INSTANCE)
    assert (row["unknown_task"], row["expected_version"]) == (None, one.current_version)
    assert [row["event"] for row in await ledger.rows(EVENT)].count("outcome_learned") == 1
    before = await ledger.rows(TASK)
    await host.tell(moves)
    assert await ledger.rows(TASK) == before


async def test_thousands_that_are_due_are_ended_some_at_a_time(ledger: Ledger) -> None:
    names = [f"i-{n}" for n in range(1_500)]
    await ledger.host("host-1", names)
    await ledger.deploy("v2", names, "d1", timeout=1)
    await ledger.expire_after(1)
    assert (await ledger.status("d1")).progress.failed == 1_000
    await ledger.store.expire()
    assert (await ledger.status("d1")).status is Status.FAILED
    assert (await ledger.store.expire()).operations == []


async def test_an_operation_ends_once_and_its_log_says_so(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    accepted = await ledger.deploy("v2", ["a", "b"], "d1")
    a, b = await ledger.dispatch(accepted.task_ids)
    await host.work(a)
    assert (await ledger.status("d1")).completed_at is None
    ledger.clock.advance(7)
    await host.work(b, REVERTED, ended("v1", FailureCode.CHECK_FAILED))
    [row] = await ledger.rows(OPERATION)
    assert (row["status"], row["ended_at"]) == (Status.FAILED, ledger.clock.now())
    closing = [e for e in await ledger.rows(EVENT) if e["event"] == "ended" and e["task"] is None]
    assert [one["outcome"] for one in closing] == ["failed"]


async def test_retiring_an_instance_fails_what_was_open_on_it(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    accepted = await ledger.deploy("v2", ["a", "b"], "d1")
    task, _ = await ledger.dispatch(accepted.task_ids)
    greeting = await host.greet(listed("b", "v1"))
    assert (OperationKind.DEPLOYMENT, "d1") in greeting.changed.operations
    one = await ledger.instance("d1", "a")
    assert (one.status, one.error_code) == (Status.FAILED, FailureCode.INSTANCE_RETIRED)
    assert [wanted.instance_id for wanted in greeting.wanted] == ["b"]
    recorded = await host.work(task)
    assert recorded.rejected != []
