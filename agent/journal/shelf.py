"""The journal's rows about one instance's kept releases, read and changed inside a transaction.

An attempt begins with a commit, and no commit can pass a transaction that writes. So while one is open no
release begins to be used, in this process or another: what may be removed or pinned is decided in here."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from agent.core.record import AttemptRecord

from .tables import open_beside, translate


@dataclass(frozen=True)
class ReleaseRow:
    """What is written down about a release. `installed` and `activated` order them: the higher the later."""

    name: str
    version: str
    sha256: str
    good: bool | None
    installed: int
    activated: int
    pinned: bool


class Shelf:
    """One instance's. Valid as long as the transaction that it was made for. Raises sqlite3.Error."""

    def __init__(self, tables: sqlite3.Connection, instance_id: str) -> None:
        self._tables, self._instance_id = tables, instance_id

    def rows(self) -> list[ReleaseRow]:
        """In the order of their installation."""
        found = self._tables.execute(
            "SELECT name, version, sha256, good, rowid, activated, pinned FROM release"
            " WHERE instance_id = ? ORDER BY rowid",
            (self._instance_id,),
        )
        return [
            ReleaseRow(
                name, version, sha256, None if good is None else bool(good), rowid, activated, bool(pinned)
            )
            for name, version, sha256, good, rowid, activated, pinned in found
        ]

    def unfinished(self) -> list[AttemptRecord]:
        """The attempts that have not ended."""
        found = self._tables.execute(
            "SELECT record FROM attempt WHERE instance_id = ? AND live = 1", (self._instance_id,)
        )
        return [AttemptRecord.model_validate_json(text) for (text,) in found]

    def pin(self, name: str, *, version: str, sha256: str, pinned: bool) -> None:
        """Keep the release from being removed, or no longer. It must be on the disk: the caller looks."""
        self._tables.execute(
            "INSERT INTO release (instance_id, name, version, sha256, pinned) VALUES (?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET pinned = excluded.pinned",
            (self._instance_id, name, version, sha256, pinned),
        )

    def forget(self, name: str) -> None:
        """The release is gone from the disk."""
        self._tables.execute(
            "DELETE FROM release WHERE instance_id = ? AND name = ?", (self._instance_id, name)
        )


@contextmanager
def open_shelf(path: Path, instance_id: str) -> Iterator[Shelf]:
    """A transaction of this process on the journal of an agent that may be running; durable on return.

    Keep it short: the agent writes nothing meanwhile. Raises JournalError, also where there is no journal;
    none is made and a damaged one is left as it is."""
    tables = open_beside(path)
    try:
        tables.execute("BEGIN IMMEDIATE")
        yield Shelf(tables, instance_id)
        tables.execute("COMMIT")
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    finally:
        tables.close()  # what was not committed is undone
