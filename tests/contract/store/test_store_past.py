"""What ran at a time: told by the history alone, and equal to what was live then."""

import asyncio
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select

from controller.core.refusals import UnknownServiceError
from controller.core.task import Task
from controller.store.engine import Database
from controller.store.tables import HISTORY, INSTANCE
from releasehand.model import FailureCode, HistoryAction, HistoryStatus, InstanceStatus
from shared.attempt import Outcome
from shared.frames import Active, AttemptEnd, Heartbeat, InstancePulse
from tests.fakes.clock import START, FakeClock
from tests.fakes.ledger import FULL, Host, Ledger, ended, listed, live, open_ledger

O = Outcome
BROKEN = [*FULL[:6], O.FAILED, O.FAILED]
REVERTED = [*FULL[:6], O.FAILED, O.OK]
HOUR = timedelta(hours=1)


async def shown(ledger: Ledger, at: datetime, service: str = "user") -> dict[str, str]:
    told = await ledger.store.service_versions_at(service, at, include_stopped=True)
    assert told.at == at
    assert sum(told.version_summary.values()) == told.total_instances == len(told.instances)
    return {one.instance_id: one.version for one in told.instances}


# ------------------------------------------------------------------------------------- equal to what was live


class Life:
    """Things that happen to instances of one host; each leaves the rows as they are when it is over."""

    def __init__(self, ledger: Ledger, host: Host, dice: random.Random) -> None:
        self.ledger, self.host, self.dice = ledger, host, dice
        self.names = [state.instance_id for state in host.instances]
        self.n = count(1)

    async def live(self) -> dict[str, str]:
        rows = await self.ledger.rows(select(INSTANCE.c.instance_id, INSTANCE.c.active_version))
        return {row["instance_id"]: row["active_version"] for row in rows}

    async def start(self, name: str) -> Task:
        return await self.ledger.start(f"v{next(self.n)}", name, retry_count=-1)

    def end(self, version: str, **said: Any) -> AttemptEnd:
        return ended(version, FailureCode.CHECK_FAILED, **said)

    async def install(self, name: str) -> None:
        await self.host.work(await self.start(name))

    async def fail(self, name: str) -> None:
        await self.host.work(await self.start(name), [O.OK, O.FAILED], self.end((await self.live())[name]))

    async def fail_with_something_else_live(self, name: str) -> None:
        await self.host.work(await self.start(name), [O.OK, O.FAILED], self.end(f"by-hand-{next(self.n)}"))

    async def revert(self, name: str) -> None:
        await self.host.work(await self.start(name), REVERTED, self.end((await self.live())[name]))

    async def break_down(self, name: str) -> None:
        task = await self.start(name)
        left = self.dice.choice([task.target_version, "", (await self.live())[name]])
        await self.host.work(task, BROKEN, self.end(left))

    async def cancel(self, name: str) -> None:
        before = (await self.live())[name]
        task = await self.start(name)
        await self.ledger.cancel(task.operation_id)
        await self.host.work(task, [O.CANCELLED], ended(before))

    async def lose_and_find(self, name: str) -> None:
        task = await self.start(name)
        await self.host.work(task, FULL[:3])
        await self.ledger.expire_after(1_000)
        moves = self.host.moves(task, FULL)
        self.host.n -= len(moves) - 1
        await self.host.tell([moves[-1].model_copy(update={"n": self.host.n})])

    async def roll_back(self, name: str) -> None:
        accepted = await self.ledger.roll_back(name, "previous", timeout=5)
        for task in await self.ledger.dispatch(accepted.task_ids):
            await self.host.work(task)

    async def drift(self, name: str) -> None:
        version = self.dice.choice([f"by-hand-{next(self.n)}", ""])
        pulse = InstancePulse(instance_id=name, active=live(version))
        await self.ledger.store.observe(
            "host-1", self.host.epoch, Heartbeat(instances=[pulse], last_n=self.host.n)
        )

    async def greet_drifted(self, name: str) -> None:
        found = await self.live() | {name: f"by-hand-{next(self.n)}"}
        await self.host.greet(*(listed(one, found[one]) for one in self.names))

    def steps(self) -> list[Callable[[str], Any]]:
        return [
            self.install,
            self.fail,
            self.fail_with_something_else_live,
            self.revert,
            self.break_down,
            self.cancel,
            self.lose_and_find,
            self.roll_back,
            self.drift,
            self.greet_drifted,
        ]


@pytest.mark.parametrize("seed", [1, 2])
async def test_what_ran_at_each_time_is_what_was_live_then(ledger: Ledger, seed: int) -> None:
    dice = random.Random(seed)
    host = Host(ledger.store, ledger.clock, "host-1")
    await host.greet(listed("a", "v0"), listed("b"), listed("c", "v0"))
    life = Life(ledger, host, dice)
    steps = life.steps() * 3
    dice.shuffle(steps)
    truth = {ledger.clock.now(): await life.live()}
    for step in steps:
        ledger.clock.advance(60)
        await step(dice.choice(life.names))
        truth[ledger.clock.now()] = await life.live()
    for at, versions in truth.items():
        told = await shown(ledger, at)
        # an instance on which nothing was ever installed has no history yet
        assert told | {name: "" for name in versions if name not in told} == versions, at
        assert {name for name in versions if versions[name]} <= set(told)


async def test_a_broken_instance_with_another_version_live_has_an_entry_that_says_so(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await host.work(await ledger.start("v2", "a"), BROKEN, ended("v2", FailureCode.REVERT_FAILED))
    await host.work(
        await ledger.start("v2", "b", deploy_id="d2"), BROKEN, ended("v1", FailureCode.REVERT_FAILED)
    )
    adopted, failed = ("v1", "adopt", "success"), ("v2", "deploy", "failed")
    assert await ledger.history("a") == [adopted, failed, ("v2", "drift", "success")]
    assert await ledger.history("b") == [adopted, failed]


# ------------------------------------------------------------------------------------- equal to a replay


@dataclass(frozen=True)
class Entry:
    instance: int
    service: int
    version: str
    status: HistoryStatus
    minute: int


ENTRIES = st.lists(
    st.builds(
        Entry,
        instance=st.integers(0, 3),
        service=st.integers(0, 1),
        version=st.sampled_from(["v1", "v2", "v3", ""]),
        status=st.sampled_from([HistoryStatus.SUCCESS, *HistoryStatus]),
        minute=st.integers(0, 8),
    ),
    max_size=14,
)


def replay(entries: list[Entry], retired: dict[int, int], service: int, minute: int) -> dict[int, str]:
    """Play the history up to a minute, entry by entry."""
    live: dict[int, Entry] = {}
    for entry in sorted(entries, key=lambda one: one.minute):
        if entry.minute <= minute and entry.status is HistoryStatus.SUCCESS:
            live[entry.instance] = entry
    return {
        instance: entry.version
        for instance, entry in live.items()
        if entry.service == service and not retired.get(instance, minute + 1) <= minute
    }


@pytest.fixture(scope="module")
def past(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Ledger, Database]]:
    """One database for all examples; each has services and instances of its own."""
    url = f"sqlite:///{tmp_path_factory.mktemp('past')}/controller.db"
    with asyncio.Runner() as runner:
        opened = open_ledger(url, FakeClock())
        ledger = runner.run(opened.__aenter__())
        runner.run(ledger.host("host-1", ["model"], "v1", service="model"))
        database = Database(url)
        yield runner, ledger, database
        runner.run(database.close())
        runner.run(opened.__aexit__(None, None, None))


NUMBERS = count()


@settings(max_examples=60, deadline=None)
@given(
    entries=ENTRIES,
    retired=st.dictionaries(st.integers(0, 3), st.integers(0, 8), max_size=2),
    minute=st.integers(0, 9),
)
def test_what_ran_at_a_time_equals_a_replay_of_the_history(
    past: tuple[asyncio.Runner, Ledger, Database],
    entries: list[Entry],
    retired: dict[int, int],
    minute: int,
) -> None:
    runner, ledger, database = past
    mark = f"x{next(NUMBERS)}"
    rows = [
        {
            "instance_id": f"{mark}-{one.instance}",
            "service": f"{mark}-s{one.service}",
            "version": one.version,
            "sha256": "",
            "action": HistoryAction.DEPLOY,
            "status": one.status,
            "operation_id": "",
            "at": START + timedelta(minutes=one.minute),
        }
        for one in entries
    ]

    async def write() -> None:
        async with database.write() as conn:
            [model] = (
                await conn.execute(select(INSTANCE).where(INSTANCE.c.instance_id == "model"))
            ).mappings()
            instances = [
                dict(model)
                | {
                    "instance_id": f"{mark}-{n}",
                    "service": f"{mark}-s0",
                    "retired_at": START + timedelta(minutes=retired[n]) if n in retired else None,
                }
                for n in range(4)
            ]
            await conn.execute(insert(INSTANCE), instances)
            if rows:
                await conn.execute(insert(HISTORY), rows)

    runner.run(write())
    told = runner.run(shown(ledger, START + timedelta(minutes=minute), f"{mark}-s0"))
    assert told == {f"{mark}-{n}": version for n, version in replay(entries, retired, 0, minute).items()}


# ------------------------------------------------------------------------------------- at the edges


async def test_nothing_ran_before_the_first_entry_and_an_unknown_service_stays_unknown(
    ledger: Ledger,
) -> None:
    await ledger.host("host-1", ["a"], "v1")
    assert await shown(ledger, ledger.clock.now() - timedelta(seconds=1)) == {}
    assert await shown(ledger, ledger.clock.now()) == {"a": "v1"}
    assert await shown(ledger, ledger.clock.now() + HOUR) == {"a": "v1"}
    with pytest.raises(UnknownServiceError):
        await shown(ledger, ledger.clock.now(), "nobody-s")


async def test_where_nothing_was_live_counts_as_stopped_and_all_else_as_running(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    pulse = InstancePulse(instance_id="a", active=Active())
    await ledger.store.observe("host-1", host.epoch, Heartbeat(instances=[pulse], last_n=0))
    now = ledger.clock.now()
    both = await ledger.store.service_versions_at("user", now, include_stopped=True)
    assert [(one.instance_id, one.status, one.status_reason) for one in both.instances] == [
        ("a", InstanceStatus.STOPPED, "nothing_installed"),
        ("b", InstanceStatus.RUNNING, ""),
    ]
    alone = await ledger.store.service_versions_at("user", now, include_stopped=False)
    assert (alone.version_summary, alone.total_instances, alone.updated_at) == ({"v1": 1}, 1, now)


async def test_a_retired_instance_ran_until_it_was_retired(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    before = ledger.clock.now()
    ledger.clock.advance(60)
    await host.greet(listed("b", "v1"))
    assert await shown(ledger, before) == {"a": "v1", "b": "v1"}
    assert await shown(ledger, ledger.clock.now()) == {"b": "v1"}
