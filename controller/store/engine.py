"""The connections: one writer, a few readers, and what must be true of them before anything is accepted."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

from sqlalchemy import event, make_url, text
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from controller.core.refusals import StoreUnavailableError

READERS: Final = 4
BUSY_TIMEOUT_MS: Final = 5_000
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}

ResultT = TypeVar("ResultT")


class Database:
    """Reads run beside each other; writes run one after the other, each in one transaction."""

    def __init__(self, url: str) -> None:
        parsed = make_url(url)
        backend = parsed.get_backend_name()
        if backend not in _DRIVERS:
            raise ValueError(f"cannot use database '{backend}': sqlite and postgresql are supported")
        self.is_sqlite = backend == "sqlite"
        self.url = parsed.set(drivername=_DRIVERS[backend])
        if self.is_sqlite and parsed.database in (None, "", ":memory:"):
            raise ValueError(
                "cannot keep the truth in memory: name a database file, as in sqlite:////var/lib/x.db"
            )
        self._writer = self._engine(pool_size=1, begin="BEGIN IMMEDIATE")
        self._readers = self._engine(pool_size=READERS, begin="BEGIN")
        self._writing = asyncio.Lock()

    def _engine(self, *, pool_size: int, begin: str) -> AsyncEngine:
        engine = create_async_engine(self.url, pool_size=pool_size, max_overflow=0, pool_timeout=30)
        if self.is_sqlite:
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            event.listen(engine.sync_engine, "begin", lambda conn: conn.exec_driver_sql(begin))
        return engine

    async def check(self) -> None:
        """Raises StoreUnavailableError unless an acknowledged commit survives a power cut here (security.md
        0.3)."""
        if not self.is_sqlite:
            return
        async with self.read() as conn:
            journal = (await conn.execute(text("PRAGMA journal_mode"))).scalar_one()
            synchronous = (await conn.execute(text("PRAGMA synchronous"))).scalar_one()
        if (journal, synchronous) != ("wal", 2):
            raise StoreUnavailableError(
                f"cannot use {self.url.database}: SQLite runs with journal_mode={journal} and"
                f" synchronous={synchronous}, not WAL and FULL; put the file on a local file system"
            )

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent look. Raises StoreUnavailableError. Not safe to cancel: see `carry_through`."""
        with _translated():
            async with self._readers.connect() as conn:
                yield conn

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, durable when the block has been left; undone if it raises. Raises
        StoreUnavailableError. Not safe to cancel: see `carry_through`."""
        with _translated():
            async with self._writing, self._writer.begin() as conn:
                yield conn

    async def close(self) -> None:
        """Fold SQLite's log into the file and let go of the connections."""
        await self._readers.dispose()
        await self._writer.dispose()


async def carry_through(work: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Await `work` to its end; if the caller is cancelled meanwhile, raise CancelledError only then.

    A statement runs in the driver's thread and cannot be cancelled: a SQLite connection that is dropped under
    it keeps its transaction, and with it the lock on the whole file."""
    task = asyncio.create_task(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as exc:
            cancelled = exc
    if cancelled is not None:
        task.exception()  # nobody is left to hear of it
        raise cancelled
    return task.result()


def _prepare_sqlite(connection: Any, _record: Any) -> None:
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


class _translated:  # noqa: N801 - used like a function
    """Translate what the driver raises when the database cannot be used; a bug in a statement passes
    through."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if (
            isinstance(exc, (OperationalError, InterfaceError, PoolTimeoutError))
            or type(exc) is DatabaseError  # SQLite: no database, or a damaged one
            or (isinstance(exc, DBAPIError) and exc.connection_invalidated)
        ):
            raise StoreUnavailableError(f"cannot use the database: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    cause = getattr(exc, "orig", None) or exc
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def make_directory(url: str) -> None:
    """Make a SQLite file, 0600, and its folder, 0700, where they are missing: package URLs stand in it with
    their secrets. SQLite gives the files beside it the same mode. Raises StoreUnavailableError."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite" or not parsed.database:
        return
    file = Path(parsed.database)
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        file.touch(mode=0o600)
    except OSError as exc:
        raise StoreUnavailableError(f"cannot use {file}: {exc.strerror or exc}") from exc
