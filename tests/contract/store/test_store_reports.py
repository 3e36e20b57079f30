"""Recording reports: in order, once, and never blocked by one that cannot apply."""

from typing import Any

import pytest

from controller.core.task import Task
from controller.store import Batch
from controller.store.tables import AGENT, EVENT, HISTORY, INSTANCE, TASK
from releasehand.model import FailureCode, Phase, Status, TaskResult
from shared.attempt import TERMINAL, Outcome
from tests.fakes.ledger import FULL, Host, Ledger, digest_of, ended, statements

O = Outcome
HUGE = 10**30


async def prepare(ledger: Ledger) -> tuple[Host, Task]:
    host = await ledger.host("host-1", ["a"], "v1")
    return host, await ledger.start("v2", "a", deploy_id="d1")


async def position(ledger: Ledger, agent_id: str = "host-1") -> tuple[int, int]:
    """The newest recorded report of an agent, and how many were rejected."""
    [row] = [row for row in await ledger.rows(AGENT) if row["agent_id"] == agent_id]
    return row["last_n"], row["rejected_reports"]


async def test_a_whole_attempt_is_recorded_with_a_start_and_an_end_of_each_phase(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    recorded = await host.work(task)
    assert recorded.acks == {("host-1", 1): ("inc-1", 8)}
    log = [row for row in await ledger.rows(EVENT) if row["task"] == task.id]
    phases = [phase for phase in Phase if phase not in TERMINAL and phase is not Phase.REVERTING]
    for kind in ("phase_started", "phase_ended"):
        assert [row["phase"] for row in log if row["event"] == kind] == phases
    assert {row["duration_s"] for row in log if row["event"] == "phase_ended"} == {1.5}
    assert [row["event"] for row in log if not row["phase"]] == ["accepted", "dispatched", "ended"]
    assert {row["attempt"] for row in log} == {0, 1}
    one = await ledger.instance("d1", "a")
    assert (one.status, one.result, one.phase, one.version) == (
        Status.COMPLETED,
        TaskResult.DOWNLOADED,
        Phase.DONE,
        "v2",
    )
    [row] = await ledger.rows(INSTANCE)
    assert (row["active_sha256"], row["expected_sha256"]) == (digest_of("v2"), digest_of("v2"))


@pytest.mark.parametrize("at", range(7))
async def test_a_phase_that_fails_is_logged_with_its_code(ledger: Ledger, at: int) -> None:
    host, task = await prepare(ledger)
    await host.work(task, [*FULL[:at], O.FAILED], ended("v1", FailureCode.HOST_ERROR))
    ends = [row for row in await ledger.rows(EVENT) if row["event"] == "phase_ended"]
    assert (ends[-1]["outcome"], len(ends)) == ("failed", at + 1)


async def test_the_log_of_a_failed_attempt_is_kept(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.HOST_ERROR, log_tail="line 1\nline 2"))
    kept = [row for row in await ledger.rows(EVENT) if row["event"] == "log_tail"]
    assert [(row["task"], row["attempt"], row["message"]) for row in kept] == [(task.id, 1, "line 1\nline 2")]


@pytest.mark.parametrize("broken", [True, False])
async def test_the_host_alone_says_whether_an_instance_is_broken(ledger: Ledger, broken: bool) -> None:
    host, task = await prepare(ledger)
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.HOST_ERROR, broken=broken))
    [row] = await ledger.rows(INSTANCE)
    assert row["broken"] is broken  # an attempt that fails before it changes anything mends nothing


async def test_a_second_copy_changes_nothing_and_is_acknowledged(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    moves = host.moves(task, FULL)
    await host.tell(moves)
    before = [await ledger.rows(table) for table in (TASK, EVENT, HISTORY)]
    again = await host.tell(moves)
    assert again.acks == {("host-1", 1): ("inc-1", 8)}
    assert again.dropped == {"out_of_order": 8}
    assert [await ledger.rows(table) for table in (TASK, EVENT, HISTORY)] == before


async def test_what_follows_a_gap_waits_for_the_gap(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    moves = host.moves(task, FULL)
    recorded = await host.tell([moves[0], moves[2], moves[3]])
    assert recorded.acks == {("host-1", 1): ("inc-1", 1)}
    assert (await ledger.task(task.id)).phase is Phase.QUEUED
    await host.tell(moves)
    assert (await ledger.task(task.id)).status is Status.COMPLETED


async def test_an_older_session_is_not_answered_and_changes_nothing(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    moves = host.moves(task, FULL)
    await host.greet(last_n=8)
    for said in ({"epoch": 1}, {"incarnation": "inc-0"}):
        recorded = await host.tell(moves, **said)
        assert (recorded.acks, recorded.dropped) == ({}, {"closed_session": 8})
    assert await position(ledger) == (0, 0)
    await host.tell(moves)
    assert (await ledger.task(task.id)).status is Status.COMPLETED


POISONS: dict[str, dict[str, Any]] = {
    "no such task": {"task": 99},
    "a number beyond the database's": {"task": HUGE},
    "another instance": {"instance_id": "b"},
    "an older attempt": {"attempt": 9},
    "another generation": {"generation": HUGE},
    "an end without its result": {"entered": Phase.DONE, "end": None},
    "an unlisted move": {"left": Phase.QUEUED, "entered": Phase.CHECKING},
}


@pytest.mark.parametrize("name", POISONS)
async def test_a_report_that_cannot_apply_is_counted_acknowledged_and_blocks_nothing(
    ledger: Ledger, name: str
) -> None:
    host, task = await prepare(ledger)
    first, *rest = host.moves(task, FULL)
    poison = rest[0].model_copy(update=POISONS[name])
    behind = [move.model_copy(update={"n": move.n + 1}) for move in rest]
    recorded = await host.tell([first, poison, *behind])
    assert recorded.acks == {("host-1", 1): ("inc-1", 9)}
    assert len(recorded.rejected) == 1
    assert await position(ledger) == (9, 1)
    assert (await ledger.task(task.id)).status is Status.COMPLETED
    assert [row["event"] for row in await ledger.rows(EVENT)].count("report_rejected") == 1


async def test_an_agent_cannot_report_for_another_one_s_task(ledger: Ledger) -> None:
    _, task = await prepare(ledger)
    stranger = await ledger.host("host-2", ["b"], "v1")
    recorded = await stranger.work(task)
    assert len(recorded.rejected) == 8
    assert recorded.acks == {("host-2", 1): ("inc-1", 8)}
    assert (await ledger.task(task.id)).phase is Phase.QUEUED


async def test_reports_of_an_older_attempt_change_nothing(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    failed_at = ledger.clock.now()
    ledger.clock.advance(10)
    assert await ledger.store.due_retries(failed_at) == [task.id]
    [second] = await ledger.dispatch([task.id])
    assert (second.attempt, second.retries_left, second.error_code) == (2, 2, None)
    await host.work(task)
    assert (await ledger.task(task.id)).phase is Phase.QUEUED
    await host.work(second)
    assert (await ledger.instance("d1", "a")).status is Status.COMPLETED
    assert (await ledger.history("a"))[1:] == [("v2", "deploy", "success")]


async def test_an_overdue_retry_of_an_agent_that_is_away_is_not_looked_at_again_and_again(
    ledger: Ledger,
) -> None:
    host, task = await prepare(ledger)
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    ledger.clock.advance(10)
    overdue_since = ledger.clock.now()
    ledger.clock.advance(1)
    assert await ledger.store.due_retries(overdue_since) == []
    assert await ledger.store.missed_tasks(["host-1"]) == [task.id]  # it is back, and nobody said so
    assert await ledger.store.missed_tasks(["host-2"]) == []


async def test_a_new_attempt_counts_its_bytes_from_nothing(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    await ledger.store.write_live_state(heartbeats={}, presence={}, progress=[(task.id, 1, 70, 100)])
    await host.work(task, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    ledger.clock.advance(10)
    await ledger.dispatch([task.id])
    one = await ledger.instance("d1", "a")
    assert (one.attempt, one.bytes_done) == (2, 0)


async def test_many_agents_are_recorded_in_one_transaction_of_few_statements(ledger: Ledger) -> None:
    hosts = [await ledger.host(f"host-{n}", [f"i-{n}"], "v1") for n in range(50)]
    accepted = await ledger.deploy("v2", [f"i-{n}" for n in range(50)], "d1")
    tasks = {task.agent_id: task for task in await ledger.dispatch(accepted.task_ids)}
    batches = [
        Batch(host.agent_id, host.epoch, host.incarnation, host.moves(tasks[host.agent_id], FULL))
        for host in hosts
    ]
    with statements() as seen:
        recorded = await ledger.store.record(batches, lambda: 0.5)
    assert len(recorded.acks) == 50
    assert (await ledger.status("d1")).status is Status.COMPLETED
    assert len(seen) <= 16


async def test_many_operations_end_together_in_few_statements(ledger: Ledger) -> None:
    hosts = [await ledger.host(f"host-{n}", [f"i-{n}"], "v1") for n in range(30)]
    tasks = [await ledger.start("v2", f"i-{n}", deploy_id=f"d{n}") for n in range(30)]
    batches = [
        Batch(host.agent_id, host.epoch, host.incarnation, host.moves(task, FULL))
        for host, task in zip(hosts, tasks, strict=True)
    ]
    with statements() as seen:
        recorded = await ledger.store.record(batches, lambda: 0.5)
    assert len(recorded.changed.operations) == 30
    assert len(seen) <= 18


async def test_one_agent_at_fault_does_not_hold_up_the_others(ledger: Ledger) -> None:
    host, task = await prepare(ledger)
    other = await ledger.host("host-2", ["b"], "v1")
    theirs = await ledger.start("v2", "b", deploy_id="d2")
    bad = [move.model_copy(update={"task": HUGE}) for move in host.moves(task, FULL)]
    batches = [
        Batch("host-1", host.epoch, "inc-1", bad),
        Batch("host-2", other.epoch, "inc-1", other.moves(theirs, FULL)),
        Batch("nobody", 1, "inc-1", bad),
    ]
    recorded = await ledger.store.record(batches, lambda: 0.5)
    assert set(recorded.acks) == {("host-1", 1), ("host-2", 1)}
    assert (await ledger.task(theirs.id)).status is Status.COMPLETED
