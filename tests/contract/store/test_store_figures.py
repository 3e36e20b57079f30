"""Figures of how long tasks took and why they failed, each recomputed from the rows."""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from controller.core.figures import Sample
from controller.core.task import Task
from controller.store import stats
from controller.store.engine import Database
from controller.store.tables import EVENT, OPERATION, TASK
from releasehand.model import Durations, FailureCode, Period, Phase, Status, SystemStats, TaskFigures
from shared.attempt import Outcome
from tests.fakes.clock import START, FakeClock
from tests.fakes.ledger import FULL, Host, Ledger, ended, open_ledger

O = Outcome
Rows = list[dict[str, Any]]


# ------------------------------------------------------------------------------------- what must be told


def percentiles(values: list[float]) -> tuple[Any, ...]:
    """By the definition: the smallest value that so many do not exceed."""

    def smallest(percent: int) -> float | None:
        reached = [one for one in values if sum(x <= one for x in values) * 100 >= percent * len(values)]
        return min(reached, default=None)

    return len(values), smallest(50), smallest(95), smallest(99)


def told(durations: Durations) -> tuple[Any, ...]:
    return durations.count, durations.p50_s, durations.p95_s, durations.p99_s


def check(
    figures: TaskFigures, tasks: Rows, log: Rows, since: datetime, most: int = stats.TIMED_TASKS
) -> None:
    """Every figure of tasks is what these rows say."""
    over = [task for task in tasks if task["completed_at"] is not None and task["completed_at"] > since]
    sample = Sample.of(len(over), most)
    timed = [task for task in over if sample.takes(task["id"])]
    assert (figures.ended, figures.timed) == (len(over), len(timed))
    assert told(figures.total) == percentiles(
        [(task["completed_at"] - task["accepted_at"]).total_seconds() for task in timed]
    )
    names = {task["id"] for task in timed}
    left: dict[str, list[float]] = {}
    for event in log:
        if event["task"] in names and event["event"] == "phase_ended" and event["outcome"] != "unknown":
            left.setdefault(event["phase"], []).append(event["duration_s"])
    assert {phase.value: told(one) for phase, one in figures.phases.items()} == {
        phase: percentiles(durations) for phase, durations in left.items()
    }
    codes = Counter(task["error_code"] for task in over if task["status"] == "failed")
    ranked = sorted(codes.items(), key=lambda one: (-one[1], one[0]))[:10]
    assert [(one.code, one.count) for one in figures.failures] == ranked


# ------------------------------------------------------------------------------------- of work as it goes


class Shift:
    """Operations on one host, a random time apart, that end in all ways."""

    def __init__(self, ledger: Ledger, host: Host, dice: random.Random) -> None:
        self.ledger, self.host, self.dice, self.n = ledger, host, dice, 0
        self.names = [state.instance_id for state in host.instances]

    async def work(self, task: Task, outcomes: list[Outcome], code: FailureCode | None) -> None:
        end = ended(task.target_version if code is None else "v0", code)
        for move in self.host.moves(task, outcomes, end):
            took_s = self.dice.randrange(5_000) / 1_000
            self.ledger.clock.advance(took_s)
            await self.host.tell([move.model_copy(update={"duration_s": took_s})])

    async def run(self, operations: int) -> None:
        for _ in range(operations):
            self.n += 1
            accepted = await self.ledger.deploy(f"v{self.n}", self.names, f"d{self.n}", retry_count=-1)
            tasks = await self.ledger.dispatch(accepted.task_ids)
            for task in tasks:
                match self.dice.randrange(4):
                    case 0:
                        await self.work(task, [O.OK, O.FAILED], FailureCode.DIGEST_MISMATCH)
                    case 1:
                        await self.work(task, [O.OK, O.OK, O.OK, O.FAILED], FailureCode.ARCHIVE_REFUSED)
                    case 2:
                        await self.work(task, FULL[:3], None)  # and falls silent
                    case _:
                        await self.work(task, FULL, None)
            await self.ledger.expire_after(1_000)
            await self.tell_the_truth(tasks)

    async def tell_the_truth(self, tasks: list[Task]) -> None:
        """Without it the instances that fell silent would take no new work."""
        for task in await self.ledger.tasks([task.id for task in tasks]):
            if task.error_code is FailureCode.OUTCOME_UNKNOWN:
                moves = self.host.moves(task, FULL)
                self.host.n -= len(moves) - 1
                await self.host.tell([moves[-1].model_copy(update={"n": self.host.n})])


async def test_the_figures_of_work_equal_what_its_rows_and_its_log_say(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b", "c"], "v0")
    shift = Shift(ledger, host, random.Random(7))
    for _ in range(3):
        await shift.run(2)
        ledger.clock.advance(timedelta(minutes=20).total_seconds())
    tasks, log = await ledger.rows(TASK), await ledger.rows(EVENT)
    told_of = {period: (await ledger.store.system_stats(period)).tasks for period in Period}
    for period, figures in told_of.items():
        check(figures, tasks, log, ledger.clock.now() - stats.SPAN[period])
    assert told_of[Period.HOUR].ended < told_of[Period.DAY].ended == 18
    assert {one.code for one in told_of[Period.DAY].failures} >= {"digest_mismatch", "outcome_unknown"}


async def test_a_period_without_ends_has_no_percentiles_and_no_failures(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    ledger.clock.advance(timedelta(hours=2).total_seconds())
    await ledger.start("v3", "a")  # open: it does not count
    nothing = (await ledger.store.system_stats(Period.HOUR)).tasks
    assert nothing == TaskFigures(ended=0, timed=0, total=Durations(), phases={}, failures=[])
    assert (await ledger.store.system_stats(Period.DAY)).tasks.ended == 1


async def test_a_status_tells_when_half_nearly_all_and_all_instances_had_ended(ledger: Ledger) -> None:
    names = [f"i-{n:02}" for n in range(21)]
    host = await ledger.host("host-1", names, "v1")
    tasks = await ledger.dispatch((await ledger.deploy("v2", names, "d1")).task_ids)
    random.Random(1).shuffle(tasks)
    for n, task in enumerate(tasks, 1):
        ledger.clock.advance(1.5)
        await host.work(task, *(() if n % 3 else ([O.OK, O.FAILED], ended("v1", FailureCode.NO_SPACE))))
        paced = (await ledger.status("d1")).ended_after
        rows = await ledger.rows(select(TASK.c.completed_at).where(TASK.c.completed_at.is_not(None)))
        ends = sorted(row["completed_at"] for row in rows)
        reached = {
            percent: (ends[math.ceil(21 * percent / 100) - 1] - START).total_seconds()
            for percent in (50, 95, 100)
            if 100 * len(ends) >= percent * 21
        }
        assert (paced.p50_s, paced.p95_s, paced.p100_s) == tuple(map(reached.get, (50, 95, 100)))


# ------------------------------------------------------------------------------------- of any rows


@dataclass(frozen=True)
class Past:
    """A task that may have ended, and what its attempts left."""

    age_s: int | None
    took_ms: int
    status: Status
    code: str
    left: list[tuple[Phase, str, int]]


PASTS = st.builds(
    Past,
    age_s=st.one_of(st.none(), st.sampled_from([0, 3_599, 3_600, 86_400]), st.integers(0, 7_200)),
    took_ms=st.integers(0, 20_000),
    status=st.sampled_from([Status.COMPLETED, Status.FAILED, Status.CANCELLED]),
    code=st.sampled_from([code.value for code in FailureCode][:14]),
    left=st.lists(
        st.tuples(
            st.sampled_from(list(Phase)[:8]),
            st.sampled_from(["ok", "failed", "unknown"]),
            st.integers(0, 9_000),
        ),
        max_size=4,
    ),
)


@dataclass(frozen=True)
class Rewritten:
    """One database for all examples, and an operation and its task to make others from."""

    runner: asyncio.Runner
    database: Database
    operation: dict[str, Any]
    task: dict[str, Any]
    now: datetime


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rewritten]:
    url = f"sqlite:///{tmp_path_factory.mktemp('figures')}/controller.db"
    with asyncio.Runner() as runner:
        opened = open_ledger(url, FakeClock())
        ledger = runner.run(opened.__aenter__())
        host = runner.run(ledger.host("host-1", ["a"], "v1"))
        runner.run(ledger.install(host, "v2", "a"))
        [operation], [task] = runner.run(ledger.rows(OPERATION)), runner.run(ledger.rows(TASK))
        database = Database(url)
        yield Rewritten(runner, database, operation, task, ledger.clock.now())
        runner.run(database.close())
        runner.run(opened.__aexit__(None, None, None))


async def rewrite(on: Rewritten, pasts: list[Past], first: int) -> None:
    """Each past as an operation with one task, and nothing else."""
    operations, tasks, log = [], [], []
    for n, one in enumerate(pasts, first):
        at = None if one.age_s is None else on.now - timedelta(seconds=one.age_s)
        accepted_at = (at or on.now) - timedelta(milliseconds=one.took_ms)
        status = one.status if at else Status.IN_PROGRESS
        said = {"id": n, "operation_id": f"d{n}", "accepted_at": accepted_at, "status": status}
        operations.append(on.operation | said | {"ended_at": at})
        code = one.code if status is Status.FAILED else None
        life = {"operation": n, "completed_at": at, "superseded_by": n, "error_code": code}
        tasks.append(on.task | said | life)
        for phase, outcome, took_ms in one.left:
            ids = {"operation": n, "task": n, "instance_id": "a"}
            said_of = {"phase": phase, "outcome": outcome, "duration_s": took_ms / 1_000}
            log.append({"at": on.now, "event": "phase_ended", "message": ""} | ids | said_of)
    async with on.database.write() as conn:
        for table in (EVENT, TASK, OPERATION):
            await conn.execute(delete(table))
        for table, rows in ((OPERATION, operations), (TASK, tasks), (EVENT, log)):
            if rows:
                await conn.execute(insert(table), rows)


@settings(max_examples=60, deadline=None)
@given(
    pasts=st.lists(PASTS, max_size=25),
    first=st.integers(1, 10_000_000),
    most=st.sampled_from([5, 12, 5_000]),
    period=st.sampled_from(list(Period)),
)
def test_every_figure_equals_what_is_computed_from_the_rows(
    rewritten: Rewritten, pasts: list[Past], first: int, most: int, period: Period
) -> None:
    async def look() -> tuple[SystemStats, Rows, Rows]:
        await rewrite(rewritten, pasts, first)
        async with rewritten.database.read() as conn:
            figures = await stats.read(conn, period, rewritten.now, most)
            rows = [[dict(row) for row in (await conn.execute(select(t))).mappings()] for t in (TASK, EVENT)]
        return figures, rows[0], rows[1]

    figures, tasks, log = rewritten.runner.run(look())
    since = rewritten.now - stats.SPAN[period]
    check(figures.tasks, tasks, log, since, most)
    recent = [
        one for one in pasts if one.age_s is not None and rewritten.now - timedelta(seconds=one.age_s) > since
    ]
    counted = Counter(one.status for one in recent)
    deployments = figures.deployments
    assert (deployments.success, deployments.failed, deployments.cancelled) == (
        counted[Status.COMPLETED],
        counted[Status.FAILED],
        counted[Status.CANCELLED],
    )
