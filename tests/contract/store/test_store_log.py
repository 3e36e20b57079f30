"""The release log: every phase and every share of an operation begins and ends once, in every outcome."""

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from controller.core.task import Task
from controller.store.tables import EVENT
from releasehand.model import EventKind, FailureCode, Phase
from shared.attempt import LIVE, TERMINAL, TRANSITIONS, Outcome, advance
from shared.frames import Move
from tests.fakes.ledger import FULL, Host, Ledger, ended

O, K = Outcome, EventKind
Row = dict[str, Any]


def courses(phase: Phase = Phase.QUEUED, taken: tuple[Outcome, ...] = ()) -> Iterator[tuple[Outcome, ...]]:
    """Every way through an attempt, by the outcomes of its phases."""
    if phase in TERMINAL:
        yield taken
    for left, outcome in TRANSITIONS:
        if left is phase:
            yield from courses(TRANSITIONS[left, outcome], (*taken, outcome))


def way_to(phase: Phase) -> list[Outcome]:
    """The shortest way into a live phase."""
    ways: dict[Phase, list[Outcome]] = {Phase.QUEUED: []}
    while phase not in ways:
        for (left, outcome), entered in TRANSITIONS.items():
            if left in ways:
                ways.setdefault(entered, [*ways[left], outcome])
    return ways[phase]


def end_of(outcomes: Sequence[Outcome], task: Task) -> Phase:
    phase = Phase.QUEUED
    for outcome in outcomes:
        phase = advance(phase, outcome)
    return phase


def told(phase: Phase) -> Any:
    """What a host says at the end of an attempt that ended so."""
    if phase is Phase.DONE:
        return None
    return ended("v1", None if phase is Phase.CANCELLED else FailureCode.ARCHIVE_REFUSED)


async def log_of(ledger: Ledger) -> dict[int, list[Row]]:
    """The log of each task, in order."""
    found: dict[int, list[Row]] = {}
    for row in await ledger.rows(EVENT):
        if row["task"] is not None:
            found.setdefault(row["task"], []).append(row)
    return found


def assert_paired(log: Sequence[Row]) -> None:
    """A share that has ended: nothing in its log is left open, and nothing is closed twice."""
    kinds = [row["event"] for row in log]
    assert (kinds.count(K.ACCEPTED), kinds.count(K.ENDED), kinds[0]) == (1, 1, K.ACCEPTED)
    opened: tuple[str, int] | None = None
    for row in log:
        phase = (row["phase"], row["attempt"])
        if row["event"] == K.PHASE_STARTED:
            assert opened is None, f"{phase} starts within {opened}"
            opened = phase
        elif row["event"] == K.PHASE_ENDED:
            assert opened == phase, f"{phase} ends, and {opened} is open"
            opened = None
            assert row["outcome"]
            assert row["duration_s"] is not None
            assert row["duration_s"] >= 0
        elif row["event"] in {K.ENDED, K.RETRY_SCHEDULED}:
            assert opened is None, f"{opened} is open at {row['event']}"
        ids = (row["instance_id"], row["agent_id"], row["generation"])
        assert ids == tuple(log[0][name] for name in ("instance_id", "agent_id", "generation"))
    assert opened is None
    assert log[[row["event"] for row in log].index(K.ENDED)]["duration_s"] is not None


async def assert_all_paired(ledger: Ledger, count: int) -> dict[int, list[Row]]:
    logs = await log_of(ledger)
    assert len(logs) == count
    for log in logs.values():
        assert_paired(log)
    for operation in {row["operation"] for log in logs.values() for row in log}:
        own = [r for r in await ledger.rows(EVENT) if r["operation"] == operation and r["task"] is None]
        kinds = [row["event"] for row in own]
        assert (kinds.count(K.ACCEPTED), kinds.count(K.ENDED)) == (1, 1)
        assert own[-1]["duration_s"] is not None
    return logs


async def start_each(ledger: Ledger, names: Sequence[str]) -> tuple[Host, list[Task]]:
    """One deployment over all of the names, sent to their host."""
    host = await ledger.host("host-1", names, "v1")
    accepted = await ledger.deploy("v2", names, retry_count=-1)
    return host, await ledger.dispatch(accepted.task_ids)


async def test_every_way_through_an_attempt_opens_and_closes_each_phase(ledger: Ledger) -> None:
    ways = list(courses())
    host, tasks = await start_each(ledger, [f"i-{n:02}" for n in range(len(ways))])
    for way, task in zip(ways, tasks, strict=True):
        await host.work(task, way, told(end_of(way, task)))
    logs = await assert_all_paired(ledger, len(ways))
    for way, task in zip(ways, tasks, strict=True):
        assert [r["outcome"] for r in logs[task.id] if r["event"] == K.PHASE_ENDED] == [*map(str, way)]


async def test_a_phase_whose_host_fell_silent_ends_unknown_and_the_truth_is_told_once(ledger: Ledger) -> None:
    phases = sorted(LIVE)
    host, tasks = await start_each(ledger, [f"i-{phase}" for phase in phases])
    for phase, task in zip(phases, tasks, strict=True):
        await host.work(task, way_to(phase))
    await ledger.expire_after(10_000)
    logs = await assert_all_paired(ledger, len(phases))
    for phase, task in zip(phases, tasks, strict=True):
        [last] = [row for row in logs[task.id] if row["outcome"] == "unknown"]
        assert (last["phase"], last["duration_s"], last["attempt"]) == (phase, 10_000, 1)
        final = [(p, o) for (p, o), entered in TRANSITIONS.items() if p is phase and entered in TERMINAL]
        [left, outcome] = final[0] if final else (Phase.CHECKING, O.OK)
        entered = TRANSITIONS[left, outcome]
        truth = Move(
            n=host.n + 1,
            instance_id=task.instance_id,
            generation=task.generation,
            task=task.id,
            attempt=1,
            at=ledger.clock.now(),
            left=left,
            outcome=outcome,
            entered=entered,
            end=told(entered) or ended("v2", log_tail="all is well"),
        )
        host.n += 1
        await host.tell([truth])
    logs = await assert_all_paired(ledger, len(phases))
    for log in logs.values():
        assert [row["event"] for row in log].count(K.OUTCOME_LEARNED) == 1


async def test_a_phase_on_an_instance_that_is_listed_no_more_ends_unknown(ledger: Ledger) -> None:
    phases = sorted(LIVE)
    names = [f"i-{phase}" for phase in phases]
    host, tasks = await start_each(ledger, [*names, "stays"])
    for phase, task in zip(phases, tasks, strict=False):
        await host.work(task, way_to(phase))
    await host.work(tasks[-1])
    await host.greet(host.instances[-1])
    logs = await assert_all_paired(ledger, len(tasks))
    assert {log[-1]["code"] for log in logs.values()} == {FailureCode.INSTANCE_RETIRED, ""}


@pytest.mark.parametrize("phase", [Phase.DOWNLOADING, Phase.CHECKING])
async def test_a_share_that_a_forced_rollback_took_over_is_closed(ledger: Ledger, phase: Phase) -> None:
    host, [task] = await start_each(ledger, ["a"])
    await host.work(task, way_to(phase))
    rollback = await ledger.roll_back("a", "v1", force=True)
    rest = [O.CANCELLED] if phase is Phase.DOWNLOADING else [O.OK]
    whole = host.moves(task, [*way_to(phase), *rest], None if rest == [O.OK] else ended("v1"))
    host.n -= len(whole) - 1
    await host.tell([whole[-1].model_copy(update={"n": host.n})])
    [_, next_one] = await ledger.dispatch(rollback.task_ids)
    await host.work(next_one)
    logs = await assert_all_paired(ledger, 2)
    kinds = [row["event"] for row in logs[task.id]]
    assert (kinds.count(K.SUPERSEDED), kinds.count(K.CANCEL_ASKED)) == (1, 1)


async def test_each_attempt_of_a_retried_share_is_closed_before_the_next(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a", retry_count=2)
    torn = ended("v1", FailureCode.DOWNLOAD_FAILED)
    for _ in range(2):
        await host.work(task, [O.OK, O.FAILED], torn)
        ledger.clock.advance(60)
        [task] = await ledger.dispatch([task.id])
    await host.work(task)
    [log] = (await assert_all_paired(ledger, 1)).values()
    assert [row["attempt"] for row in log if row["event"] == K.DISPATCHED] == [1, 2, 3]
    scheduled = [row for row in log if row["event"] == K.RETRY_SCHEDULED]
    assert [(row["attempt"], row["code"]) for row in scheduled] == [
        (1, FailureCode.DOWNLOAD_FAILED),
        (2, FailureCode.DOWNLOAD_FAILED),
    ]


async def test_a_share_that_never_began_is_closed_without_a_phase(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b", "c"], "v1")
    await ledger.deploy("v2", ["a"], "cancelled")
    await ledger.cancel("cancelled")
    await ledger.deploy("v2", ["b"], "late", timeout=1)
    await ledger.roll_back("c", "previous")
    backing_off = await ledger.start("v2", "a", deploy_id="again", retry_count=1)
    await host.work(backing_off, [O.OK, O.FAILED], ended("v1", FailureCode.DOWNLOAD_FAILED))
    await ledger.cancel("again")
    await ledger.expire_after(1_000)
    logs = await assert_all_paired(ledger, 4)
    assert sorted(log[-1]["outcome"] for log in logs.values()) == [
        "cancelled",
        "cancelled",
        "failed",
        "failed",
    ]


@pytest.mark.parametrize("resumed", [None, Phase.STAGED, Phase.CHECKING])
async def test_reports_that_are_lost_with_a_journal_leave_no_phase_open(
    ledger: Ledger, resumed: Phase | None
) -> None:
    """The host lost its journal and begins anew, or the controller came back with an older database."""
    host, [task] = await start_each(ledger, ["a"])
    await host.work(task, [O.OK])
    ledger.clock.advance(7)
    moves = host.moves(task, FULL)
    since = next((n for n, move in enumerate(moves) if move.left is resumed), 0)
    host.n -= len(moves)
    rest = [move.model_copy(update={"n": host.n + n}) for n, move in enumerate(moves[since:], 1)]
    await host.tell(rest)
    [log] = (await assert_all_paired(ledger, 1)).values()
    [lost] = [row for row in log if row["outcome"] == "unknown"]
    assert (lost["phase"], lost["duration_s"]) == (Phase.DOWNLOADING, 7)


async def test_what_a_host_wrote_is_stored_as_safe_to_show(ledger: Ledger) -> None:
    host, [task] = await start_each(ledger, ["a"])
    evil = "\x1b[2Jgone\u202e https://p.example/x.tar.gz?X-Signature=secret&a=b \r\n\tGET HTTPS://u/?tok=en"
    await host.work(
        task, [O.OK, O.FAILED], ended("v1", FailureCode.ARCHIVE_REFUSED, message=evil, log_tail=evil)
    )
    shown = [row["message"] for row in await ledger.rows(EVENT) if row["message"]]
    assert not [text for text in shown if "secret" in text or "tok=en" in text]
    tails = [row["message"] for row in await ledger.rows(EVENT) if row["event"] == K.LOG_TAIL]
    assert tails == ["\\x1b[2Jgone\\u202e https://p.example/x.tar.gz?… \\r\n\tGET HTTPS://u/?…"]
    assert all(text.isprintable() for text in shown if text not in tails)
