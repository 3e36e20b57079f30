"""The journal's file: its tables, how it is opened safely, and what happens to one that cannot be read.

WAL with synchronous=FULL is asserted at each start: SQLite's other settings lose acknowledged commits at
a power cut. Everything here blocks."""

import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from shared.errors import ReleasehandError
from shared.logs import get_log

log = get_log(__name__)

JOURNAL_NAME: Final = "agent.db"  # in the agent's state_dir
FORMAT: Final = 1
BUSY_TIMEOUT_MS: Final = 5_000
SYNCHRONOUS_FULL: Final = 2
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_SIDE_FILES: Final = ("", "-wal", "-shm")

SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE instance (
    instance_id TEXT PRIMARY KEY,
    broken TEXT NOT NULL DEFAULT ''  -- why its last revert failed, '' when it is whole
) STRICT;
CREATE TABLE attempt (
    instance_id TEXT NOT NULL,
    generation INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    task INTEGER NOT NULL,
    live INTEGER NOT NULL,
    record TEXT NOT NULL,            -- agent.core.record.AttemptRecord
    PRIMARY KEY (instance_id, generation, attempt, task)
) STRICT;
CREATE TABLE release (
    instance_id TEXT NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    sha256 TEXT NOT NULL,
    good INTEGER,                    -- NULL: never tried
    activated INTEGER NOT NULL DEFAULT 0,  -- the higher the later; 0: never
    pinned INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (instance_id, name)
) STRICT;
CREATE TABLE outbox (
    n INTEGER PRIMARY KEY AUTOINCREMENT,   -- numbers are never used again, not even after a restart
    ref TEXT NOT NULL,
    move TEXT NOT NULL                     -- shared.frames.Move
) STRICT;
"""


class JournalError(ReleasehandError):
    """The journal cannot be used. Nothing of the change at hand is on disk, unless the text says
    otherwise."""


class DamagedJournalError(JournalError):
    """The file is there but what it holds cannot be read."""


def open_tables(path: Path) -> sqlite3.Connection:
    """Open the journal at `path`, making it if it is missing.

    A damaged file is moved aside, under a name that starts with its own, and a new one begins. Raises
    JournalError for a file of a newer format, and when the file system refuses."""
    try:
        return _open(path)
    except DamagedJournalError:
        move_aside(path)
        return _open(path)


def open_beside(path: Path) -> sqlite3.Connection:
    """Open the journal of an agent that may be running. Raises JournalError for one that is not there, that
    is damaged or of another format; nothing is made, moved or mended."""
    try:
        connection = sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, isolation_level=None)
    except sqlite3.Error as exc:
        raise JournalError(f"cannot use {path}: {exc}; has an agent run with this state directory?") from exc
    try:
        connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
        connection.execute("PRAGMA synchronous=FULL")
        found = connection.execute("PRAGMA user_version").fetchone()[0]
        if found != FORMAT:
            raise JournalError(f"cannot use {path}: it has the format {found}, this command knows {FORMAT}")
    except sqlite3.Error as exc:
        connection.close()
        raise translate(exc, path) from exc
    except JournalError:
        connection.close()
        raise
    return connection


def move_aside(path: Path) -> Path:
    """Keep a damaged journal for a person to look at; its place is free on return. Raises JournalError."""
    kept = path.with_name(f"{path.name}.damaged-{secrets.token_hex(4)}")
    try:
        for side in _SIDE_FILES:
            source = path.with_name(path.name + side)
            if source.exists():
                os.rename(source, kept.with_name(kept.name + side))
    except OSError as exc:
        raise JournalError(f"cannot move the damaged journal {path} aside: {exc}") from exc
    log.error("damaged journal was moved aside; this agent starts with no memory of past attempts", kept=kept)
    return kept


def _open(path: Path) -> sqlite3.Connection:
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        _prepare(connection, path)
    except sqlite3.Error as exc:
        if connection is not None:
            connection.close()
        raise translate(exc, path) from exc
    except JournalError:
        assert connection is not None, "raised by _prepare alone"
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
    mode = connection.execute("PRAGMA journal_mode=WAL").fetchone()[0]
    connection.execute("PRAGMA synchronous=FULL")
    level = connection.execute("PRAGMA synchronous").fetchone()[0]
    if mode != "wal" or level != SYNCHRONOUS_FULL:
        raise JournalError(f"cannot use {path}: this file system allows no durable journal ({mode}, {level})")
    found = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > FORMAT:
        raise JournalError(
            f"cannot use {path}: a newer agent wrote it (format {found}, this agent knows {FORMAT}); "
            "install that agent again, or move the file away to start with no memory of past attempts"
        )
    if found == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {SCHEMA} PRAGMA user_version={FORMAT}; COMMIT;")
    elif connection.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
        raise DamagedJournalError(f"cannot read {path}: it is damaged")


def translate(error: Exception, path: Path) -> JournalError:
    """What an SQLite error means to the agent."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in _DAMAGED:
        return DamagedJournalError(f"cannot read {path}: {error}")
    return JournalError(f"cannot use {path}: {error}")
