"""What is PostgreSQL's alone: whom the controller trusts with its rows, and a server that goes away."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from controller.core.refusals import StoreUnavailableError
from controller.store import open_store
from controller.store.engine import Database
from releasehand.model import Status
from tests.fakes.clock import FakeClock
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import open_ledger
from tests.fakes.postgres import Postgres


@pytest.fixture
def careless(postgres: Postgres) -> Iterator[Postgres]:
    """A server that somebody has told to lie about what it has written."""
    postgres.command("postgres", "ALTER SYSTEM SET fsync = off", "SELECT pg_reload_conf()")
    yield postgres
    postgres.command("postgres", "ALTER SYSTEM RESET fsync", "SELECT pg_reload_conf()")


async def test_a_server_that_may_lose_commits_is_refused(careless: Postgres) -> None:
    with pytest.raises(StoreUnavailableError, match="fsync=off, not on"):
        await open_store(await careless.empty("contract"), FakeClock(), KEYRING)


async def test_commits_wait_for_the_disk_whatever_the_database_says(postgres: Postgres) -> None:
    url = await postgres.empty("contract")
    postgres.command("contract", 'ALTER DATABASE "contract" SET synchronous_commit = off')
    try:
        await (await open_store(url, FakeClock(), KEYRING)).close()
        database = Database(url)
        async with database.write() as conn:
            assert (await conn.exec_driver_sql("SHOW synchronous_commit")).scalar_one() == "on"
        await database.close()
    finally:
        postgres.command("contract", 'ALTER DATABASE "contract" RESET synchronous_commit')


async def test_what_was_accepted_survives_a_crash_of_the_server_and_the_store_comes_back(
    postgres: Postgres,
) -> None:
    async with open_ledger(await postgres.empty("contract")) as ledger:
        host = await ledger.host("host-1", ["a", "b"], "v1")
        task = await ledger.start("v2", "a")
        await host.work(task)
        await ledger.deploy("v2", ["b"], "last")
        postgres.crash()
        try:
            with pytest.raises(StoreUnavailableError, match="cannot use the database"):
                await ledger.status("last")
            with pytest.raises(StoreUnavailableError, match="cannot use the database"):
                await ledger.deploy("v3", ["a"], "unheard")
        finally:
            postgres.start()
        assert (await ledger.status("last")).status is Status.PENDING
        assert (await ledger.status("d-v2")).status is Status.COMPLETED
        await ledger.deploy("v3", ["a"], "unheard")


@pytest.mark.parametrize(
    "url",
    ["postgresql://nobody@/contract?host={folder}", "postgresql://releasehand@/no-such-one?host={folder}"],
)
async def test_a_server_that_does_not_let_us_in_is_unavailable(postgres: Postgres, url: str) -> None:
    with pytest.raises(StoreUnavailableError, match=r"cannot use the database.*does not exist"):
        await open_store(url.format(folder=postgres.folder), FakeClock(), KEYRING)


async def test_a_server_that_is_not_there_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match="cannot use the database"):
        await open_store(f"postgresql://nobody@/none?host={tmp_path}", FakeClock(), KEYRING)
    with pytest.raises(StoreUnavailableError, match="cannot use the database"):
        await open_store("postgresql://nobody@127.0.0.1:1/none", FakeClock(), KEYRING)


async def test_a_turn_that_never_comes_is_unavailable(postgres: Postgres) -> None:
    url = await postgres.empty("contract")
    holder, waiter = Database(url), Database(url)
    async with waiter.write() as conn:
        await conn.exec_driver_sql("SET SESSION lock_timeout = '50ms'")
    async with holder.write():
        with pytest.raises(StoreUnavailableError, match="lock timeout"):
            async with waiter.write():
                pytest.fail("two write at once")
    async with waiter.write() as conn:
        assert (await conn.exec_driver_sql("SELECT 1")).scalar_one() == 1
    await holder.close()
    await waiter.close()
