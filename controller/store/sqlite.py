"""SQLite in one file: nothing else to install. WAL, one writer."""

from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import URL, event, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

BUSY_TIMEOUT_MS: Final = 5_000


def make_engine(url: URL, *, pool_size: int, writes: bool) -> AsyncEngine:
    """With `writes`, transactions hold the write lock from their beginning: one that reads first and locks
    later would fail at once (SQLITE_BUSY_SNAPSHOT) if another process wrote in between."""
    begin = "BEGIN IMMEDIATE" if writes else "BEGIN"
    engine = create_async_engine(url, pool_size=pool_size, max_overflow=0, pool_timeout=30)
    event.listen(engine.sync_engine, "connect", _prepare)
    event.listen(engine.sync_engine, "begin", lambda conn: conn.exec_driver_sql(begin))
    return engine


async def find_weakness(conn: AsyncConnection) -> str:
    """Why an acknowledged commit could be lost at a power cut here (security.md 0.3); "" if it cannot."""
    journal = (await conn.execute(text("PRAGMA journal_mode"))).scalar_one()
    synchronous = (await conn.execute(text("PRAGMA synchronous"))).scalar_one()
    if (journal, synchronous) == ("wal", 2):
        return ""
    return (
        f"SQLite runs with journal_mode={journal} and synchronous={synchronous}, not WAL and FULL; put the"
        " file on a local file system"
    )


async def tell_time(_conn: AsyncConnection) -> datetime | None:
    """It has no clock of its own."""
    return None


def make_file(url: URL) -> None:
    """Make the file, 0600, and its folder, 0700, where they are missing: package URLs stand in it with their
    secrets. SQLite gives the files beside it the same mode. Raises OSError."""
    if url.database:
        file = Path(url.database)
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)


def _prepare(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",
        "synchronous=FULL",
        f"busy_timeout={BUSY_TIMEOUT_MS}",
        "foreign_keys=ON",
        "temp_store=MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
