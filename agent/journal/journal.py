"""What happened to the attempts of this host, and the reports about it: written before it is done or said.

One connection in one thread. A change of state and the report of it are one transaction. Phases of
shared.attempt.DURABLE are on disk when `commit` returns; others reach it with the next durable one, and
always before a report of them leaves (`pending`), so that no number is ever used for two different moves."""

import asyncio
import sqlite3
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from agent.core.record import AttemptRecord, name_of
from shared.attempt import DURABLE
from shared.frames import Kept, Move, Ref

from .query import KEY_NAME, QueryBox
from .shelf import Shelf
from .tables import move_aside, open_tables, translate

T = TypeVar("T")

KEPT_ATTEMPTS: Final = 50  # ended ones, per instance: what a repeated command is answered from


@dataclass(frozen=True)
class ReleaseMark:
    """What became of a release. `activated`: it is now the newest that was live and good."""

    release: str
    version: str
    sha256: str
    good: bool | None
    activated: bool = False


@dataclass(frozen=True)
class Change:
    """What belongs together: an attempt's new state, the report of it, and what it means for the host."""

    record: AttemptRecord
    report: bool = True  # whether the record's newest move goes into the outbox
    releases: tuple[ReleaseMark, ...] = ()
    broken: str | None = None  # None leaves it, "" mends it


class Journal:
    """Open with `Journal.open`. Every method raises JournalError when the disk refuses; then nothing was
    changed.

    Safe to cancel: the work of a cancelled call still happens, whole, before any later call's."""

    def __init__(self, path: Path, *, report: Callable[[], None] = lambda: None) -> None:
        """Use `open`. `report` is called, in the loop, after each commit that put something into the
        outbox."""
        self._path, self._report = path, report
        self._queries = QueryBox(path.with_name(KEY_NAME))
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")
        self._tables: sqlite3.Connection
        self._unsynced = False
        self.incarnation = ""
        self.last_n = 0

    @classmethod
    async def open(cls, path: Path, *, report: Callable[[], None] = lambda: None) -> "Journal":
        """Open or make the journal at `path`, whose directory exists.

        A file that cannot be read is moved aside and a new incarnation begins; one of a newer agent is
        refused with JournalError."""
        journal = cls(path, report=report)
        try:
            await journal._run(journal._open)
        except BaseException:
            journal._thread.shutdown(wait=True)
            raise
        return journal

    async def close(self) -> None:
        """Finish what was asked for and close the file; durable on return."""
        await self._run(self._tables.close)
        self._thread.shutdown(wait=True)

    # attempts

    async def commit(self, *changes: Change) -> None:
        """Make the changes, in this order, in one transaction."""
        durable = any(change.record.phase in DURABLE for change in changes)
        await self._run(lambda: self._commit(changes, durable=durable))
        if any(change.report for change in changes):
            self._report()

    async def attempts(self, instance_id: str) -> list[AttemptRecord]:
        """All that is remembered of the instance's attempts, oldest first."""
        return await self._run(
            lambda: [
                self._queries.read(text)
                for (text,) in self._tables.execute(
                    "SELECT record FROM attempt WHERE instance_id = ? ORDER BY generation, attempt",
                    (instance_id,),
                )
            ]
        )

    async def count_starts(self, records: Sequence[AttemptRecord]) -> list[AttemptRecord]:
        """Note durably, before they are gone on with, that the agent started and found these unfinished."""
        counted = [record.model_copy(update={"starts": record.starts + 1}) for record in records]
        await self._run(
            lambda: self._commit([Change(record, report=False) for record in counted], durable=True)
        )
        return counted

    async def repeat_report(self, ref: Ref) -> None:
        """Report the newest move of this attempt once more, unless a report of it waits or it is unknown.

        One step: the attempt's runner may be about to write down the next move, which must stay the last."""

        def repeat() -> bool:
            with self._transaction(durable=True):
                waits = self._tables.execute("SELECT 1 FROM outbox WHERE ref = ?", (name_of(ref),)).fetchone()
                found = self._tables.execute(
                    "SELECT record FROM attempt"
                    " WHERE instance_id = ? AND generation = ? AND attempt = ? AND task = ?",
                    (ref.instance_id, ref.generation, ref.attempt, ref.task),
                ).fetchone()
                if waits or not found:
                    return False
                self._put(name_of(ref), AttemptRecord.model_validate_json(found[0]).report())
            return True

        if await self._run(repeat):
            self._report()

    # instances

    async def broken(self, instance_id: str) -> str:
        """Why the instance is broken, "" when it is not."""
        row = await self._run(
            lambda: self._tables.execute(
                "SELECT broken FROM instance WHERE instance_id = ?", (instance_id,)
            ).fetchone()
        )
        return row[0] if row else ""

    async def releases(self, instance_id: str) -> list[Kept]:
        """What is known of the instance's releases, in the order of activation, the newest last."""
        rows = await self._run(
            lambda: self._tables.execute(
                "SELECT name, version, sha256, good, pinned FROM release WHERE instance_id = ?"
                " ORDER BY activated, name",
                (instance_id,),
            ).fetchall()
        )
        return [
            Kept(
                release=name,
                version=version,
                sha256=sha256,
                good=None if good is None else bool(good),
                pinned=bool(pinned),
            )
            for name, version, sha256, good, pinned in rows
        ]

    async def adopt(self, instance_id: str, marks: Sequence[ReleaseMark]) -> bool:
        """Record what was found on the disk of an instance that this journal never heard of; durable on
        return.

        Does nothing and returns False when it did hear of it."""

        def write() -> bool:
            with self._transaction(durable=True):
                made = self._tables.execute(
                    "INSERT INTO instance (instance_id) VALUES (?) ON CONFLICT DO NOTHING", (instance_id,)
                ).rowcount
                if made:
                    self._mark(instance_id, marks)
            return bool(made)

        return await self._run(write)

    async def with_shelf(self, instance_id: str, work: Callable[[Shelf], T]) -> T:
        """Do `work`, which blocks, while nobody else can change what is written down about the instance;
        durable on return. What it raises undoes its changes."""

        def do() -> T:
            with self._transaction(durable=True):
                return work(Shelf(self._tables, instance_id))

        return await self._run(do)

    # the outbox

    async def pending(self, *, after: int, limit: int) -> list[Move]:
        """The oldest unacknowledged reports with numbers above `after`; they are on disk when this
        returns."""

        def read() -> list[Move]:
            if self._unsynced:
                with self._transaction(durable=True):
                    self._set_meta(
                        "synced_n", str(self.last_n)
                    )  # any durable commit takes the earlier ones along
            rows = self._tables.execute(
                "SELECT move FROM outbox WHERE n > ? ORDER BY n LIMIT ?", (after, limit)
            ).fetchall()
            return [Move.model_validate_json(text) for (text,) in rows]

        return await self._run(read)

    async def acknowledged_n(self) -> int:
        """The newest number that was acknowledged; everything after it waits in the outbox."""

        def read() -> int:
            row = self._tables.execute("SELECT min(n) FROM outbox").fetchone()
            return int(row[0]) - 1 if row and row[0] is not None else self.last_n

        return await self._run(read)

    async def acknowledge(self, upto: int) -> None:
        """Drop the reports up to `upto`. If that is lost at a power cut, they are sent and acknowledged
        again."""

        def drop() -> None:
            with self._transaction(durable=False):
                self._tables.execute("DELETE FROM outbox WHERE n <= ?", (upto,))

        await self._run(drop)

    async def renew_incarnation(self) -> None:
        """Begin a new series of numbers, where this file and the controller's database cannot both be
        the newest. What waits in the outbox keeps its order under new numbers."""

        def renew() -> None:
            with self._transaction(durable=True):
                rows = self._tables.execute("SELECT ref, move FROM outbox ORDER BY n").fetchall()
                self._tables.execute("DELETE FROM outbox")
                self._tables.execute("DELETE FROM sqlite_sequence WHERE name = 'outbox'")
                self._set_meta("incarnation", str(uuid.uuid4()))
                self.last_n = 0
                for ref, text in rows:
                    self._put(ref, Move.model_validate_json(text))
            self.incarnation = self._meta("incarnation")

        await self._run(renew)

    # in the thread

    async def _run(self, work: Callable[[], T]) -> T:
        def guarded() -> T:
            try:
                return work()
            except (sqlite3.Error, OverflowError) as exc:  # a number of the peer's that fits no row
                raise translate(exc, self._path) from exc

        # Shielded: a call that waits for its turn must not vanish because its caller was cancelled.
        return await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, guarded))

    def _open(self) -> None:
        self._tables = open_tables(self._path)
        try:
            self._load()
        except ValidationError:  # readable tables that hold what no agent of this format wrote
            self._tables.close()
            move_aside(self._path)
            self._tables = open_tables(self._path)
            self._load()

    def _load(self) -> None:
        for (text,) in self._tables.execute("SELECT record FROM attempt"):
            AttemptRecord.model_validate_json(text)
        for (text,) in self._tables.execute("SELECT move FROM outbox"):
            Move.model_validate_json(text)
        if not self._meta("incarnation"):
            with self._transaction(durable=True):
                self._set_meta("incarnation", str(uuid.uuid4()))
        self.incarnation = self._meta("incarnation")
        row = self._tables.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
        self.last_n = row[0] if row else 0

    def _commit(self, changes: Iterable[Change], *, durable: bool) -> None:
        with self._transaction(durable=durable):
            for change in changes:
                self._write(change)
        self._unsynced |= not durable

    def _write(self, change: Change) -> None:
        record, ref, text = change.record, change.record.ref, self._queries.write(change.record)
        self._tables.execute(
            "INSERT INTO attempt (instance_id, generation, attempt, task, live, record)"
            " VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET live = excluded.live, record = excluded.record",
            (ref.instance_id, ref.generation, ref.attempt, ref.task, record.live, text),
        )
        if not record.live:
            self._tables.execute(
                "DELETE FROM attempt WHERE instance_id = :instance_id AND live = 0"
                " AND (generation, attempt, task) NOT IN"
                " (SELECT generation, attempt, task FROM attempt WHERE instance_id = :instance_id"
                "  ORDER BY generation DESC, attempt DESC LIMIT :kept)",
                {"instance_id": ref.instance_id, "kept": KEPT_ATTEMPTS},
            )
        self._mark(ref.instance_id, change.releases)
        if change.broken is not None:
            self._tables.execute(
                "INSERT INTO instance (instance_id, broken) VALUES (?, ?)"
                " ON CONFLICT DO UPDATE SET broken = excluded.broken",
                (ref.instance_id, change.broken),
            )
        if change.report:
            self._put(name_of(ref), record.report())

    def _put(self, ref: str, move: Move) -> None:
        self.last_n += 1
        numbered = move.model_copy(update={"n": self.last_n})
        self._tables.execute(
            "INSERT INTO outbox (n, ref, move) VALUES (?, ?, ?)",
            (self.last_n, ref, numbered.model_dump_json()),
        )

    def _mark(self, instance_id: str, marks: Sequence[ReleaseMark]) -> None:
        for mark in marks:
            self._tables.execute(
                "INSERT INTO release (instance_id, name, version, sha256, good) VALUES (?, ?, ?, ?, ?)"
                " ON CONFLICT DO UPDATE SET good = excluded.good",
                (instance_id, mark.release, mark.version, mark.sha256, mark.good),
            )
            if mark.activated:
                self._tables.execute(
                    "UPDATE release SET activated = 1 + (SELECT max(activated) FROM release) "
                    "WHERE instance_id = ? AND name = ?",
                    (instance_id, mark.release),
                )

    def _meta(self, key: str) -> str:
        row = self._tables.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else ""

    def _set_meta(self, key: str, value: str) -> None:
        self._tables.execute(
            "INSERT INTO meta (key, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (key, value),
        )

    @contextmanager
    def _transaction(self, *, durable: bool) -> Iterator[None]:
        self._tables.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self._tables.execute("BEGIN IMMEDIATE")
        last_n = self.last_n
        try:
            yield
            self._tables.execute("COMMIT")
        except BaseException:
            self.last_n = last_n
            if self._tables.in_transaction:
                self._tables.execute("ROLLBACK")
            raise
        if durable:
            self._unsynced = False
