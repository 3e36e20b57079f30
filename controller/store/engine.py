"""The connections: one writer, a few readers, and what must be true of them before anything is accepted."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import datetime
from importlib.util import find_spec
from typing import Any, Final, TypeVar

from sqlalchemy import make_url
from sqlalchemy.exc import DatabaseError, DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.refusals import StoreUnavailableError

from . import postgresql, sqlite

READERS: Final = 4
_DRIVERS: Final = {
    "sqlite": "sqlite+aiosqlite",
    "postgresql": "postgresql+asyncpg",
    "postgres": "postgresql+asyncpg",
}

_UNAVAILABLE: Final = (
    OperationalError,
    InterfaceError,
    PoolTimeoutError,
    OSError,  # PostgreSQL: nobody listens, or nobody answers in time
)

ResultT = TypeVar("ResultT")


class StaleMoveError(Exception):
    """Somebody else wrote since it was read. Nothing of the transaction is kept: look again."""


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
        if not self.is_sqlite and find_spec("asyncpg") is None:
            raise ValueError(
                "cannot use PostgreSQL: its driver is missing; install releasehand-daemons[postgres]"
            )
        self._kind = sqlite if self.is_sqlite else postgresql
        self._writer = self._kind.make_engine(self.url, pool_size=1, writes=True)
        self._readers = self._kind.make_engine(self.url, pool_size=READERS, writes=False)
        self._writing = asyncio.Lock()

    async def check(self) -> None:
        """Raises StoreUnavailableError unless an acknowledged commit survives a power cut here (security.md
        0.3)."""
        async with self.write() as conn:
            weakness = await self._kind.find_weakness(conn)
        if weakness:
            raise StoreUnavailableError(f"cannot use {self.url.database}: {weakness}")

    async def tell_time(self, conn: AsyncConnection) -> datetime | None:
        """The server's, now; None where there is no server."""
        told: datetime | None = await self._kind.tell_time(conn)
        return told

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One consistent look. Raises StoreUnavailableError. Not safe to cancel: see `carry_through`."""
        with _translated():
            async with self._readers.connect() as conn:
                yield conn

    @asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, durable when the block has been left; undone if it raises. Raises
        StoreUnavailableError; StaleMoveError if another writer came in between. Not safe to cancel: see
        `carry_through`."""
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


class _translated:  # noqa: N801 - used like a function
    """Translate what the driver raises when the database cannot be used, or when somebody else wrote; a bug
    in a statement passes through."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, exc: BaseException | None, trace: object) -> None:
        if exc is None:
            return
        state = postgresql.sql_state(exc)
        if state in postgresql.CONFLICTS:
            raise StaleMoveError(_first_line(exc)) from exc
        if (
            isinstance(exc, _UNAVAILABLE)
            or type(exc) is DatabaseError  # SQLite: no database, or a damaged one
            or (isinstance(exc, DBAPIError) and exc.connection_invalidated)
            or postgresql.is_unusable(state)
        ):
            raise StoreUnavailableError(f"cannot use the database: {_first_line(exc)}") from exc


def _first_line(exc: BaseException) -> str:
    cause = getattr(exc, "orig", None) or exc
    return str(cause).splitlines()[0] if str(cause) else type(cause).__name__


def make_directory(url: str) -> None:
    """Make a SQLite file and its folder where they are missing. Raises StoreUnavailableError."""
    parsed = make_url(url)
    if parsed.get_backend_name() != "sqlite":
        return
    try:
        sqlite.make_file(parsed)
    except OSError as exc:
        raise StoreUnavailableError(f"cannot use {parsed.database}: {exc.strerror or exc}") from exc
