"""Databases of the store's tests that stay open from test to test and are emptied in between.

Connecting, migrating and compiling every statement anew took most of what a test of the store took."""

import os
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sqlalchemy import text

from controller.store.engine import Database, make_directory
from controller.store.schema import migrate
from tests.fakes.postgres import MEMORY, Postgres

_EMPTY: Final = """
DO $$
DECLARE one record;
BEGIN
    SET LOCAL session_replication_role = replica;  -- no foreign keys, no triggers that refuse
    FOR one IN SELECT oid::regclass AS name, oid FROM pg_class
        WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    LOOP
        -- Deleting is quicker, but leaves the space of dead rows to be read again and again.
        IF pg_relation_size(one.oid) > 100000 THEN
            EXECUTE format('TRUNCATE %s CASCADE', one.name);
        ELSE
            EXECUTE format('DELETE FROM %s', one.name);
        END IF;
    END LOOP;
    PERFORM setval(oid::regclass, 1, false) FROM pg_class
        WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace;
END $$
"""


@dataclass(frozen=True)
class Kept:
    """`database` is for the store under test, `beside` for what a test looks up or changes by itself; `empty`
    brings back the tables as the migrations leave them, numbering from 1."""

    url: str
    database: Database
    beside: Database
    empty: Callable[[], Awaitable[None]]


@asynccontextmanager
async def keep_sqlite() -> AsyncIterator[Kept]:
    """In memory where the machine has a place for that, so that waiting for the disk takes no time."""
    place = MEMORY if os.access(MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="releasehand-sqlite-", dir=place) as folder:
        file, template = Path(folder, "controller.db"), Path(folder, "empty.db")
        async with _opened(f"sqlite:///{file}") as (database, beside):
            _copy(file, template)

            async def empty() -> None:
                _copy(template, file)

            yield Kept(f"sqlite:///{file}", database, beside, empty)


@asynccontextmanager
async def keep_postgres(server: Postgres) -> AsyncIterator[Kept]:
    url = server.create("kept")
    async with _opened(url) as (database, beside):

        async def empty() -> None:
            async with beside.write() as conn:
                await conn.execute(text(_EMPTY))

        yield Kept(url, database, beside, empty)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[tuple[Database, Database]]:
    make_directory(url)
    database, beside = Database(url), Database(url)
    try:
        await migrate(database)
        await database.check()
        yield database, beside
    finally:
        await database.close()
        await beside.close()


def _copy(source: Path, target: Path) -> None:
    """Page by page, as SQLite sees it: connections to `target` stay, and see the new rows."""
    with closing(sqlite3.connect(source)) as reads, closing(sqlite3.connect(target)) as writes:
        writes.execute("PRAGMA synchronous=OFF")
        reads.backup(writes)
