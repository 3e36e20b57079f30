"""The databases that the store's contract is tested on, each real."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from controller.store import Store
from tests.fakes.clock import FakeClock
from tests.fakes.databases import Kept, keep_postgres, keep_sqlite
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import Ledger
from tests.fakes.postgres import NoPostgresError, Postgres, run_postgres

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One event loop for all of them: connections belong to the loop on which they were made."""
    for item in items:
        if _HERE in item.path.parents and pytest_asyncio.is_async_test(item):
            item.add_marker(pytest.mark.asyncio(loop_scope="session"), append=False)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of this process."""
    try:
        with run_postgres() as server:
            yield server
    except NoPostgresError as exc:
        pytest.skip(str(exc))


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sqlite() -> AsyncIterator[Kept]:
    async with keep_sqlite() as kept:
        yield kept


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def postgresql(postgres: Postgres) -> AsyncIterator[Kept]:
    async with keep_postgres(postgres) as kept:
        yield kept


@pytest.fixture(params=["sqlite", "postgresql"])
def kept(request: pytest.FixtureRequest) -> Kept:
    """Another engine is one more parameter here; no test knows on which it runs."""
    kept: Kept = request.getfixturevalue(request.param)
    return kept


@pytest_asyncio.fixture(loop_scope="session")
async def database_url(kept: Kept) -> AsyncIterator[str]:
    """A database with empty tables. A test leaves nothing at work on the loop that it shares."""
    await kept.empty()
    before = asyncio.all_tasks()
    yield kept.url
    assert asyncio.all_tasks() - before <= {asyncio.current_task()}


@pytest.fixture
def ledger(database_url: str, kept: Kept) -> Ledger:
    clock = FakeClock()
    return Ledger(Store(kept.database, clock, KEYRING), clock, database_url, kept.beside)
