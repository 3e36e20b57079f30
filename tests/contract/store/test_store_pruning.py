"""What is too old goes; what is needed stays, and nobody waits for it."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import insert

from controller.core.lists import LogPage
from controller.pruner import Pruner, Retention
from controller.store import pruning
from controller.store.engine import Database
from controller.store.tables import EVENT, HISTORY
from releasehand.model import FailureCode, HistoryAction, HistoryStatus, OperationKind
from shared.attempt import Outcome
from shared.clock import SystemClock
from tests.fakes.clock import FakeClock
from tests.fakes.ledger import Ledger, ended, statements

O = Outcome
DAY_S = 86_400.0
TEN_DAYS = timedelta(days=10)


class Unslept(FakeClock):
    """A pause is over at once; how many there were is counted."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__()
        self._clock, self.pauses = clock, 0

    def now(self) -> Any:
        return self._clock.now()

    async def sleep(self, seconds: float) -> None:
        self.pauses += 1


async def prune(ledger: Ledger, **kept: timedelta) -> int:
    """One round; how often it paused."""
    clock = Unslept(ledger.clock)
    await Pruner(ledger.store, Retention(**kept), clock).prune()
    return clock.pauses


async def log_of(ledger: Ledger, deploy_id: str) -> list[int]:
    log = await ledger.store.release_log(OperationKind.DEPLOYMENT, deploy_id, LogPage(limit=1_000))
    return [event.id for event in log.events]


async def test_events_go_when_their_operation_ended_long_enough_ago(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await ledger.install(host, "v2", "a")
    open_one = await ledger.start("v2", "b", deploy_id="d-long", timeout=86_400)
    ledger.clock.advance(5 * DAY_S)
    await ledger.install(host, "v3", "a")
    ledger.clock.advance(6 * DAY_S)
    before = {name: await log_of(ledger, name) for name in ("d-v2", "d-v3", "d-long")}
    await prune(ledger, events=TEN_DAYS)
    after = {name: await log_of(ledger, name) for name in before}
    assert after == before | {"d-v2": []}
    assert open_one.is_open
    assert "agent_connected" not in {row["event"] for row in await ledger.rows(EVENT)}
    assert (await ledger.status("d-v2")).progress.completed == 1


async def test_without_a_retention_nothing_goes(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    ledger.clock.advance(10_000 * DAY_S)
    before = [await ledger.rows(table) for table in (EVENT, HISTORY)]
    await prune(ledger)
    assert [await ledger.rows(table) for table in (EVENT, HISTORY)] == before


async def test_the_newest_event_stays_so_that_no_id_is_given_twice(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await ledger.install(host, "v2", "a")
    newest = (await ledger.rows(EVENT))[-1]["id"]
    ledger.clock.advance(100 * DAY_S)
    await prune(ledger, events=TEN_DAYS)
    assert [row["id"] for row in await ledger.rows(EVENT)] == [newest]
    await ledger.install(host, "v3", "a")
    assert min(await log_of(ledger, "d-v3")) > newest


async def test_thousands_of_events_go_in_short_transactions_with_pauses(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    old = {"at": ledger.clock.now(), "event": "agent_online", "agent_id": "host-1"}
    blank = {
        "instance_id": "",
        "generation": 0,
        "attempt": 0,
        "phase": "",
        "outcome": "",
        "code": "",
        "message": "",
    }
    async with ledger.connection() as conn:
        await conn.execute(insert(EVENT), [old | blank] * 2_200)
    ledger.clock.advance(11 * DAY_S)
    with statements() as seen:
        pauses = await prune(ledger, events=TEN_DAYS)
    assert len(await ledger.rows(EVENT)) == 1
    deletes = [parameters for statement, parameters in seen if statement.startswith("DELETE FROM event")]
    assert max(map(len, deletes)) <= pruning.DELETED_TOGETHER
    assert pauses >= len(deletes) - 1 >= 4


async def test_a_very_long_history_is_read_a_few_entries_at_a_time(ledger: Ledger) -> None:
    await ledger.host("host-1", ["a"], "v1")
    old = {
        "instance_id": "a",
        "service": "user",
        "sha256": "",
        "action": HistoryAction.DEPLOY,
        "status": HistoryStatus.SUCCESS,
        "operation_id": "d",
        "at": ledger.clock.now(),
    }
    database = Database(ledger.url)
    async with database.write() as conn:
        await conn.execute(insert(HISTORY), [old | {"version": f"v{n % 30}"} for n in range(3_000)])
    await database.close()
    ledger.clock.advance(11 * DAY_S)
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            await SystemClock().sleep(0)
            turns += 1

    async with asyncio.TaskGroup() as group:
        others = group.create_task(take_turns())
        before = turns
        await prune(ledger, history=TEN_DAYS)
        others.cancel()
    assert turns - before >= 3_000 / pruning.READ_TOGETHER
    left = [version for version, *_ in await ledger.history("a")]
    assert left == [f"v{n % 30}" for n in range(2_990, 3_000)]


async def test_history_keeps_what_previous_and_the_window_need(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v0")
    for n in range(1, 19):
        ledger.clock.advance(DAY_S)
        await ledger.install(host, f"v{n}", "a")
        bad = await ledger.start("bad", "a", deploy_id=f"d-bad-{n}", retry_count=-1)
        await host.work(bad, [O.OK, O.FAILED], ended(f"v{n}", FailureCode.ARCHIVE_REFUSED))
    ledger.clock.advance(60)
    days = [ledger.clock.now() - timedelta(days=days) for days in range(5)]
    window = [await ledger.store.service_versions_at("user", at, include_stopped=True) for at in days]
    whole = await ledger.history("a")
    await prune(ledger, history=timedelta(days=4))
    left = await ledger.history("a")
    assert left[-18:] == whole[-18:]  # the window, and the newest entries before it
    assert [version for version, *_ in left[:-18]] == ["v5", "v6", "v7", "v8", "v9"]
    assert [await ledger.store.service_versions_at("user", at, include_stopped=True) for at in days] == window
    for n in range(17, 4, -1):
        [task] = await ledger.dispatch((await ledger.roll_back("a", "previous")).task_ids)
        assert task.target_version == f"v{n}"
        await host.work(task)


async def test_an_instance_that_rests_for_long_keeps_its_newest_entries(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v0")
    for n in range(1, 4):
        await ledger.install(host, f"v{n}", "a")
    ledger.clock.advance(1_000 * DAY_S)
    await prune(ledger, history=TEN_DAYS)
    assert [version for version, *_ in await ledger.history("a")] == ["v0", "v1", "v2", "v3"]
    assert len(await ledger.history("b")) == 1
    told = await ledger.store.service_versions_at("user", ledger.clock.now() - TEN_DAYS, include_stopped=True)
    assert told.version_summary == {"v3": 1, "v0": 1}


@pytest.mark.parametrize("instances", [1, 45])
async def test_each_instance_is_looked_at_by_itself(ledger: Ledger, instances: int) -> None:
    names = [f"i-{n:02}" for n in range(instances)]
    await ledger.host("host-1", names, "v1")
    entries = [
        {
            "instance_id": name,
            "service": "user",
            "version": "v2",
            "sha256": "",
            "action": HistoryAction.DEPLOY,
            "status": HistoryStatus.FAILED,
            "operation_id": "",
            "at": ledger.clock.now(),
        }
        for name in names
        for _ in range(30)
    ]
    database = Database(ledger.url)
    async with database.write() as conn:
        await conn.execute(insert(HISTORY), entries)
    await database.close()
    ledger.clock.advance(11 * DAY_S)
    await prune(ledger, history=TEN_DAYS)
    kept = pruning.KEPT_ENTRIES + 1
    assert {len(await ledger.history(name)) for name in names} == {kept}
