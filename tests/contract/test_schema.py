"""The database's own promises: models equal migrations, commits are durable, statements find their rows."""

import asyncio
import sqlite3
from contextlib import closing
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, text

from controller.core.acceptance import WHOLE
from controller.core.lists import LogPage, OperationFilter, Page
from controller.core.refusals import StoreUnavailableError
from controller.store import Store, open_store
from controller.store.columns import Row
from controller.store.engine import Database
from controller.store.schema import alembic_config, migrate
from releasehand.model import OperationKind, Period, RollbackType, Status
from shared.frames import Heartbeat, InstancePulse
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import FULL, Ledger, live, open_ledger, statements


def url_of(folder: Path) -> str:
    return f"sqlite:///{folder}/controller.db"


async def test_the_models_equal_the_migrations(tmp_path: Path) -> None:
    database = Database(url_of(tmp_path))
    await migrate(database)

    def compare(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Row.metadata) == []
        command.check(alembic_config(connection))

    async with database.read() as conn:
        await conn.run_sync(compare)
    await database.close()


async def test_migrating_again_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        await (await open_store(url_of(tmp_path), FakeClock(), KEYRING)).close()
    with sqlite3.connect(tmp_path / "controller.db") as connection:
        assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
    connection.close()


async def test_a_schema_of_a_newer_release_is_refused_and_left_alone(tmp_path: Path) -> None:
    await (await open_store(url_of(tmp_path), FakeClock(), KEYRING)).close()
    file = tmp_path / "controller.db"
    connection = sqlite3.connect(file)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StoreUnavailableError, match="9999 of a newer release"):
        await open_store(url_of(tmp_path), FakeClock(), KEYRING)
    connection = sqlite3.connect(file)
    assert connection.execute("SELECT version_num FROM alembic_version").fetchone() == ("9999",)
    connection.close()


async def test_both_kinds_of_connection_run_wal_with_full_synchronisation(tmp_path: Path) -> None:
    database = Database(url_of(tmp_path))
    for connect in (database.read, database.write):
        async with connect() as conn:
            values = [
                (await conn.execute(text(f"PRAGMA {name}"))).scalar_one()
                for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
            ]
        assert values == ["wal", 2, 1, 5_000]
    await database.check()
    await database.close()


async def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "controller.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(StoreUnavailableError, match="cannot use the database"):
        await open_store(url_of(tmp_path), FakeClock(), KEYRING)


async def test_a_lock_held_by_somebody_else_is_unavailable_and_then_over(tmp_path: Path) -> None:
    async with open_ledger(url_of(tmp_path)) as ledger:
        await ledger.host("host-1", ["a"], "v1")
        other = sqlite3.connect(tmp_path / "controller.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailableError, match="locked"):
            await ledger.deploy("v2", ["a"])
        other.execute("ROLLBACK")
        other.close()
        await ledger.deploy("v2", ["a"])


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "mysql://localhost/x"])
def test_a_database_that_cannot_keep_the_truth_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="cannot"):
        Database(url)


async def test_no_statement_of_the_daily_work_reads_a_whole_growing_table(tmp_path: Path) -> None:
    """Tasks, events, history and operations only grow: what is done all day finds its rows by an index."""
    async with open_ledger(url_of(tmp_path)) as ledger:
        with statements() as seen:
            await work_a_day(ledger)
        assert await asyncio.to_thread(find_scans, tmp_path / "controller.db", seen) == []


async def work_a_day(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a", "b"], "v1")
    await ledger.install(host, "v2", "a")
    beat = Heartbeat(instances=[InstancePulse(instance_id="a", active=live("v2"))], last_n=host.n)
    await ledger.store.observe("host-1", host.epoch, beat)
    task = await ledger.start("v3", "a")
    await ledger.roll_back("a", "previous", force=True)
    await ledger.deploy("v3", ["b"], "d-b")
    await ledger.cancel("d-b")
    await host.greet()
    await host.work(task, FULL[:2])
    store = ledger.store
    for find in (store.missed_tasks, store.open_tasks):
        await find(["host-1"])
    await store.due_retries(ledger.clock.now())
    await store.expire()
    await store.write_live_state(heartbeats={}, presence={}, progress=[(task.id, 1, 1, 1), (1, 1, 1, 1)])
    await store.deploy_status("d-v3", WHOLE)
    await store.service_versions("user", include_stopped=False)
    await store.service_instances("user", status=None, version="", limit=9, offset=0)
    await store.version_history("a", limit=9, offset=0)
    await store.system_stats(Period.DAY)
    await look_into_lists(store, ledger.clock.now())


async def look_into_lists(store: Store, now: datetime) -> None:
    filters = [
        OperationFilter(),
        OperationFilter(service="user"),
        OperationFilter(status=Status.FAILED),
        OperationFilter(since=now, until=now),
        OperationFilter(service="user", status=Status.COMPLETED, since=now, rollback_type=RollbackType.BATCH),
    ]
    for wanted in filters:
        await store.list_deployments(wanted, Page())
        await store.list_rollbacks(wanted, Page())
    for instance_id in ("", "a"):
        page = LogPage(after=1, instance_id=instance_id)
        await store.release_log(OperationKind.DEPLOYMENT, "d-v2", page)
    await store.service_versions_at("user", now, include_stopped=True)
    for mark in (now, now + timedelta(days=1)):
        await store.prune_events(mark, 0)
        await store.prune_history(mark, "")


async def test_no_page_of_a_growing_table_is_sorted(tmp_path: Path) -> None:
    """It comes out of an index in its order: the first page costs the same however long the list is."""
    async with open_ledger(url_of(tmp_path)) as ledger:
        await ledger.install(await ledger.host("host-1", ["a"], "v1"), "v2", "a")
        with statements() as seen:
            await look_into_lists(ledger.store, ledger.clock.now())
            await ledger.store.version_history("a", limit=9, offset=0)
        file = tmp_path / "controller.db"
        plans = await asyncio.to_thread(find_plans, file, seen)
        assert len(plans) > 20
        assert [said for step, said in plans if "TEMP B-TREE FOR ORDER BY" in step] == []


async def test_figures_read_no_row_of_a_task_or_of_the_log(tmp_path: Path) -> None:
    """There may be millions, with long texts in them: indices hold all that is asked."""
    async with open_ledger(url_of(tmp_path)) as ledger:
        await ledger.install(await ledger.host("host-1", ["a"], "v1"), "v2", "a")
        with statements() as seen:
            assert (await ledger.store.system_stats(Period.DAY)).tasks.phases
        plans = await asyncio.to_thread(find_plans, tmp_path / "controller.db", seen)
        looks = [step for step, _ in plans if step.startswith(("SEARCH task", "SEARCH event"))]
        assert len(looks) == 4
        assert [step for step in looks if "COVERING INDEX" not in step] == []


def find_scans(file: Path, seen: list[tuple[str, Any]]) -> list[str]:
    """The statements whose plan reads a growing table from end to end."""
    growing = tuple(f"SCAN {table}" for table in ("task", "event", "version_history", "operation"))
    return sorted({f"{step}: {said}" for step, said in find_plans(file, seen) if step.startswith(growing)})


def find_plans(file: Path, seen: list[tuple[str, Any]]) -> list[tuple[str, str]]:
    """Each step of the plan of each statement."""
    found = []
    with closing(sqlite3.connect(file)) as connection:
        for statement, parameters in seen:
            if not statement.startswith(("SELECT", "UPDATE", "DELETE", "INSERT")):
                continue
            one = parameters[0] if isinstance(parameters, list) else parameters
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement}", one)
            found += [(step[3], statement) for step in plan]
    return found
