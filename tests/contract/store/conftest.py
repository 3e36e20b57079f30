"""The databases that the store's contract is tested on, each real."""

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from controller.store.engine import Database, make_directory
from controller.store.schema import migrate
from tests.fakes.ledger import Ledger, open_ledger
from tests.fakes.postgres import NoPostgresError, Postgres, run_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server for all tests of this process."""
    try:
        with run_postgres() as server:
            yield server
    except NoPostgresError as exc:
        pytest.skip(str(exc))


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a file with empty tables is kept once a test has made it: copying is quicker than migrating."""
    return tmp_path_factory.mktemp("sqlite") / "empty.db"


@pytest.fixture(params=["sqlite", "postgresql"])
async def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with empty tables. Another engine is one more parameter here; no test knows on which it
    runs."""
    if request.param == "postgresql":
        server: Postgres = request.getfixturevalue("postgres")
        return await server.empty("contract")
    template: Path = request.getfixturevalue("sqlite_template")
    if not _is_made(template):
        await _make(template)
    shutil.copyfile(template, tmp_path / "controller.db")
    return f"sqlite:///{tmp_path}/controller.db"


@pytest.fixture
async def ledger(database_url: str) -> AsyncIterator[Ledger]:
    async with open_ledger(database_url) as ledger:
        yield ledger


def _is_made(file: Path) -> bool:
    return file.exists()


async def _make(file: Path) -> None:
    url = f"sqlite:///{file}"
    make_directory(url)
    database = Database(url)
    try:
        await migrate(database)
    finally:
        await database.close()
