"""Several controllers on one database, and values that one database takes and another might not."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, insert, select, update

from controller.core.acceptance import Accepted
from controller.core.refusals import InstanceBusyError
from controller.core.task import fail
from controller.store import StaleMoveError
from controller.store.columns import Row
from controller.store.engine import Database
from controller.store.schema import alembic_config, migrate
from controller.store.tables import AGENT, EVENT, HISTORY, INSTANCE, OPERATION, TASK
from releasehand.model import DeployResult, FailureCode, Status
from shared.frames import MAX_GENERATION_TOLD, MAX_NUMBER, Hello, decode_from_agent, encode
from tests.fakes.ledger import (
    ACTOR,
    NO_KEY,
    Ledger,
    deployment,
    ended,
    enrol,
    listed,
    open_ledger,
)

CONTROLLERS = 3


async def several(stack: AsyncExitStack, url: str) -> list[Ledger]:
    first = await stack.enter_async_context(open_ledger(url))
    more = [await stack.enter_async_context(open_ledger(url, first.clock)) for _ in range(CONTROLLERS - 1)]
    return [first, *more]


async def test_of_many_controllers_that_accept_for_one_instance_at_once_one_wins(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ledgers = await several(stack, database_url)
        await ledgers[0].host("host-1", ["a", "b"], "v1")

        async def accept(number: int) -> Accepted[DeployResult] | None:
            try:
                return await ledgers[number % CONTROLLERS].deploy("v2", ["a", "b"], f"d-{number}")
            except InstanceBusyError:
                return None

        async with asyncio.TaskGroup() as group:
            calls = [group.create_task(accept(number)) for number in range(4 * CONTROLLERS)]
        assert len([call for call in calls if call.result() is not None]) == 1
        assert len(await ledgers[0].rows(OPERATION)) == 1
        assert [row["generation"] for row in await ledgers[0].rows(INSTANCE)] == [1, 1]


async def test_equal_calls_to_many_controllers_at_once_start_one_execution(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ledgers = await several(stack, database_url)
        await ledgers[0].host("host-1", ["a"], "v1")
        async with asyncio.TaskGroup() as group:
            calls = [
                group.create_task(ledgers[number % CONTROLLERS].deploy("v2", ["a"]))
                for number in range(4 * CONTROLLERS)
            ]
        assert sorted(call.result().repeated for call in calls) == [False] + [True] * (4 * CONTROLLERS - 1)
        assert len({call.result().result.started_at for call in calls}) == 1


async def test_a_task_that_many_controllers_move_at_once_moves_once(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ledgers = await several(stack, database_url)
        await ledgers[0].host("host-1", ["a"], "v1")
        [task] = await ledgers[0].tasks((await ledgers[0].deploy("v2", ["a"])).task_ids)

        async def end(ledger: Ledger) -> bool:
            try:
                await ledger.store.move([fail(task, FailureCode.AGENT_OFFLINE, "late", ledger.clock.now())])
            except StaleMoveError:
                return False
            return True

        async with asyncio.TaskGroup() as group:
            ends = [group.create_task(end(ledger)) for ledger in ledgers]
        assert sorted(one.result() for one in ends) == [False, False, True]
        assert [row["event"] for row in await ledgers[0].rows(EVENT)].count("ended") == 2  # task, operation


async def test_reports_that_two_controllers_record_at_once_count_once(database_url: str) -> None:
    async with AsyncExitStack() as stack:
        ledgers = await several(stack, database_url)
        host = await ledgers[0].host("host-1", ["a"], "v1")
        task = await ledgers[0].start("v2", "a")
        moves = host.moves(task, [], None)
        async with asyncio.TaskGroup() as group:
            for ledger in ledgers:
                host.store = ledger.store
                group.create_task(host.tell(moves))
        assert len(await ledgers[0].rows(select(AGENT.c.last_n))) == 1
        started = [row for row in await ledgers[0].rows(EVENT) if row["event"] == "phase_started"]
        assert len(started) == 1


async def test_a_writer_that_takes_no_turn_is_met_by_looking_again(postgres: Any) -> None:
    """Somebody with a console, or an older release: the unique index still keeps two operations apart."""
    url = await postgres.empty("contract")
    async with open_ledger(url) as ledger:
        await ledger.host("host-1", ["a"], "v1")
        await ledger.deploy("v2", ["a"], "template")
        await ledger.cancel("template")
        [row] = await ledger.rows(TASK)
        stranger = Database(url)
        async with stranger._readers.connect() as conn:  # the ones that take no turn
            await conn.exec_driver_sql("SET TRANSACTION READ WRITE")
            taken = {name: value for name, value in row.items() if name != "id"} | {"status": "pending"}
            await conn.execute(insert(TASK).values(taken))
            async with asyncio.TaskGroup() as group:
                refused = group.create_task(refusal(ledger))
                await wait_for_a_lock(postgres)
                await conn.commit()
        await stranger.close()
        assert refused.result() == "InstanceBusyError"
        assert (await ledger.status("template")).progress.pending == 1


async def refusal(ledger: Ledger) -> str:
    try:
        await ledger.deploy("v3", ["a"], "second")
    except InstanceBusyError as exc:
        return type(exc).__name__
    return ""


async def wait_for_a_lock(postgres: Any) -> None:
    """Until a transaction waits for another one's end."""
    watcher = Database(postgres.url("contract"))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid'"
    async with asyncio.timeout(10):
        while True:
            async with watcher.read() as conn:
                if (await conn.exec_driver_sql(waiting)).scalar_one():
                    break
    await watcher.close()


async def test_the_models_equal_the_migrations_on_every_database(database_url: str) -> None:
    database = Database(database_url)
    await migrate(database)

    def compare(connection: Connection) -> None:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Row.metadata) == []
        command.check(alembic_config(connection))

    async with database.write() as conn:
        await conn.run_sync(compare)
    await database.close()


async def test_numbers_of_any_size_that_a_frame_may_hold_are_kept(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    await host.greet(listed("a", "v1", generation=MAX_GENERATION_TOLD))
    task = await ledger.start("v2", "a")
    assert task.generation == MAX_GENERATION_TOLD + 1
    progress = [(task.id, 1, MAX_NUMBER, MAX_NUMBER), (task.id, MAX_NUMBER, 1, 1)]
    await ledger.store.write_live_state(heartbeats={}, presence={}, progress=progress)
    assert (await ledger.instance("d-v2", "a")).bytes_done == MAX_NUMBER
    await host.work(task)
    assert (await ledger.task(task.id)).status is Status.COMPLETED


async def test_a_text_of_any_characters_is_kept(ledger: Ledger) -> None:
    """PostgreSQL takes no NUL, which JSON can spell: a frame is read without."""
    told = Hello(
        agent_id="host-1",
        agent_version="1",
        host="host\x00one",
        boot_id="b",
        incarnation="i",
        last_n=0,
        instances=[
            listed("a", "v1", reason="a\x00b \N{SNOWMAN} \U0001f600 \\u0000", metadata={"k\x00": "\x00"})
        ],
    )
    hello = decode_from_agent(encode(told))
    assert isinstance(hello, Hello)
    await ledger.store.greet(hello, await enrol(ledger.store, hello.agent_id), NO_KEY)
    [row] = await ledger.rows(INSTANCE)
    assert row["reason"].startswith("a\ufffdb \N{SNOWMAN} \U0001f600 ")
    assert row["facts"] == {"k\ufffd": "\ufffd"}


async def test_a_look_sees_one_moment(ledger: Ledger, database_url: str) -> None:
    await ledger.host("host-1", ["a"], "v1")
    database = Database(database_url)
    async with database.read() as conn:
        before = (await conn.execute(select(INSTANCE.c.generation))).scalar_one()
        await ledger.deploy("v2", ["a"])
        assert (await conn.execute(select(INSTANCE.c.generation))).scalar_one() == before
        assert (await conn.execute(select(HISTORY.c.id))).all() == [(1,)]
    await database.close()


async def test_a_reader_cannot_write_where_the_database_can_hold_it_to_that(postgres: Any) -> None:
    database = Database(await postgres.empty("contract"))
    with pytest.raises(Exception, match="read-only"):
        async with database.read() as conn:
            await conn.execute(update(INSTANCE).values(port=1))
    await database.close()


async def test_ends_and_times_are_the_same_on_every_database(ledger: Ledger) -> None:
    host = await ledger.host("host-1", ["a"], "v1")
    task = await ledger.start("v2", "a")
    ledger.clock.advance(1.25)
    await host.work(task, end=ended("v2"))
    [operation] = await ledger.rows(OPERATION)
    assert operation["ended_at"] == ledger.clock.now()
    assert operation["fingerprint"]["version"] == "v2"
    assert (await ledger.store.accept_deployment(deployment("v2", ["a"]), actor=ACTOR)).repeated
