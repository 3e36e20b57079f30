"""How the store looks and how it writes: a look is one consistent picture, a write is one transaction."""

from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, TypeVar

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.checkpoint import Checkpoint, pass_by
from shared.clock import Clock
from shared.sealing import Keyring

from .engine import Database, StaleMoveError, carry_through

TRIES: Final = 5

ResultT = TypeVar("ResultT")


class Transactions:
    """What every part of the store is made of.

    Everything may raise StoreUnavailableError; a write that raised is undone, or it was committed and the
    answer was lost: every write is safe to repeat, and every call to cancel (it ends first)."""

    def __init__(
        self, database: Database, clock: Clock, keyring: Keyring, checkpoint: Checkpoint = pass_by
    ) -> None:
        """What is secret is sealed with `keyring`."""
        self._database, self._clock, self._keyring = database, clock, keyring
        self._checkpoint = checkpoint

    async def close(self) -> None:
        """Let go of the database; running calls end first."""
        await self._database.close()

    async def _read(self, look: Callable[[AsyncConnection], Awaitable[ResultT]]) -> ResultT:
        async def read() -> ResultT:
            async with self._database.read() as conn:
                return await look(conn)

        return await carry_through(read())

    async def _write(
        self, change: Callable[[AsyncConnection, datetime], Awaitable[ResultT]], point: str = "write"
    ) -> ResultT:
        """Run `change` in one transaction, again if rows moved under it. `point` names it for checkpoints."""
        for _ in range(TRIES - 1):
            try:
                return await self._write_once(change, point)
            except StaleMoveError:
                continue
        return await self._write_once(change, point)

    async def _write_once(
        self, change: Callable[[AsyncConnection, datetime], Awaitable[ResultT]], point: str
    ) -> ResultT:
        async def write() -> ResultT:
            async with self._database.write() as conn:
                self._checkpoint(f"{point}:begun")
                result = await change(conn, self._clock.now())
                self._checkpoint(f"{point}:written")
            self._checkpoint(f"{point}:committed")
            return result

        return await carry_through(write())

    async def ping(self) -> None:
        """Raises StoreUnavailableError unless the database answers."""
        await self._read(lambda conn: conn.execute(text("SELECT 1")))

    async def skew(self) -> timedelta | None:
        """How far the database's clock is ahead of this store's; None where it has none of its own."""

        async def look(conn: AsyncConnection) -> timedelta | None:
            before = self._clock.now()
            told = await self._database.tell_time(conn)
            if told is None:
                return None
            return told - (before + (self._clock.now() - before) / 2)

        return await self._read(look)
