"""What dispatcher, recorder, sweeper and pruner read and write."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Table
from sqlalchemy.ext.asyncio import AsyncConnection

from controller.core.plan import Standing
from controller.core.task import TaskMove, expire

from . import moves, pruning, queries, queue, reports, tasks
from .tables import EVENT, HISTORY
from .transactions import Transactions

EXPIRE_BATCH: Final = 1_000


class Work(Transactions):
    """Every move is compare-and-set."""

    async def load_tasks(self, ids: Iterable[int]) -> list[Standing]:
        """Tasks with what their plans depend on; unknown ids are left out."""
        return await self._read(lambda conn: queue.load_standing(conn, ids))

    async def due_retries(self, since: datetime) -> list[int]:
        """Tasks whose backoff has ended since then."""
        return await self._read(lambda conn: queue.due_retries(conn, since, self._clock.now()))

    async def open_tasks(self, agent_ids: Sequence[str]) -> list[int]:
        """Every open task of these agents."""
        return await self._read(lambda conn: queue.open_tasks(conn, agent_ids))

    async def missed_tasks(self, agent_ids: Sequence[str]) -> list[int]:
        """Tasks of these agents for which something can be done now: what a lost wake-up or frame left
        behind."""
        return await self._read(lambda conn: queue.missed_tasks(conn, agent_ids, self._clock.now()))

    async def move(self, task_moves: Sequence[TaskMove]) -> moves.Changed:
        """Store all of them or raise StaleMoveError: somebody else moved one, look again. Durable on
        return."""
        changes = [moves.Change(move) for move in task_moves]
        return await self._write_once(lambda conn, now: moves.apply(conn, changes, now), "move")

    async def record(
        self, batches: Sequence[reports.Batch], chance: Callable[[], float], *, refusal: str = ""
    ) -> reports.Recorded:
        """Record reports of many agents together, or reject them all for the reason of a `refusal`.

        Durable on return: they may be acknowledged."""
        return await self._write(
            lambda conn, now: reports.record(conn, batches, now=now, chance=chance, refusal=refusal), "record"
        )

    async def expire(self) -> moves.Changed:
        """End tasks whose time is over, at most EXPIRE_BATCH of them."""

        async def close(conn: AsyncConnection, now: datetime) -> moves.Changed:
            due = await tasks.fetch(conn, tasks.due_to_close(now, EXPIRE_BATCH).with_for_update())
            changes = [moves.Change(move) for task in due if (move := expire(task, now)) is not None]
            return await moves.apply(conn, changes, now)

        return await self._write(close, "expire")

    async def prune_events(self, before: datetime, after: int) -> tuple[int, int | None]:
        """Remove some old events from a place on; how many, and where to go on."""
        found = await self._read(lambda conn: pruning.find_old_events(conn, before, after))
        await self._remove(EVENT, found.doomed)
        return len(found.doomed), found.following

    async def prune_history(self, before: datetime, after: str) -> tuple[int, str | None]:
        """Remove old entries that nothing needs of some instances; how many, and where to go on."""
        found = await self._read(lambda conn: pruning.find_old_history(conn, before, after))
        await self._remove(HISTORY, found.doomed)
        return len(found.doomed), found.following

    async def forget_queries(self) -> int:
        """Remove the queries of URLs that nothing needs any more; how many."""
        return await self._write(queries.remove_unneeded, "prune")

    async def reseal(self) -> list[str]:
        """Seal all secrets with the present key; the ids of the keys that are missing for some."""
        return await self._write(lambda conn, now: queries.reseal(conn, self._keyring, now), "reseal")

    async def _remove(self, table: Table, ids: Sequence[int]) -> None:
        """In short transactions."""
        for start in range(0, len(ids), pruning.DELETED_TOGETHER):
            piece = ids[start : start + pruning.DELETED_TOGETHER]
            await self._write(lambda conn, _now, ids=piece: pruning.remove(conn, table, ids), "prune")  # type: ignore[misc]
