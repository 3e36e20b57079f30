"""A look into the journal of an agent that runs or not: nothing is made, mended or held up."""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from agent.core.record import AttemptRecord

from .tables import BUSY_TIMEOUT_MS, FORMAT, DamagedJournalError, JournalError, translate

LAST_ATTEMPTS: Final = 10


@dataclass(frozen=True)
class Glance:
    """The journal at one moment. `releases` are names in the order of their activation, by instance, each
    with whether it was good (None: never tried) and whether it is pinned."""

    attempts: tuple[AttemptRecord, ...] = ()
    """What is unfinished, and the newest that have ended, the newest first."""
    waiting: int = 0
    """Reports that the controller has not acknowledged."""
    broken: tuple[tuple[str, str], ...] = ()
    releases: tuple[tuple[str, str, bool | None, bool], ...] = ()


def glance_at(path: Path, *, attempts: int = LAST_ATTEMPTS) -> Glance | None:
    """What the journal at `path` says; None where there is none. Queries of packages' URLs are left out.

    Read-only, so that it is safe beside a running agent. Raises JournalError."""
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as tables:
            tables.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            found = tables.execute("PRAGMA user_version").fetchone()[0]
            if found != FORMAT:
                raise JournalError(
                    f"cannot use {path}: it has the format {found}, this command knows {FORMAT}"
                )
            tables.execute("BEGIN")  # one moment for all that follows
            return _read(tables, attempts)
    except sqlite3.Error as exc:
        raise translate(exc, path) from exc
    except ValidationError as exc:
        raise DamagedJournalError(
            f"cannot read {path}: it holds what no agent of this version wrote"
        ) from exc


def _read(tables: sqlite3.Connection, attempts: int) -> Glance:
    texts = tables.execute(
        "SELECT record FROM attempt ORDER BY live DESC, json_extract(record, '$.entered_at.wall') DESC,"
        " generation DESC, attempt DESC LIMIT"
        " max(?, (SELECT count(*) FROM attempt WHERE live = 1))",
        (attempts,),
    )
    return Glance(
        attempts=tuple(AttemptRecord.model_validate_json(text) for (text,) in texts),
        waiting=tables.execute("SELECT count(*) FROM outbox").fetchone()[0],
        broken=tuple(tables.execute("SELECT instance_id, broken FROM instance WHERE broken != ''")),
        releases=tuple(
            (instance_id, name, None if good is None else bool(good), bool(pinned))
            for instance_id, name, good, pinned in tables.execute(
                "SELECT instance_id, name, good, pinned FROM release ORDER BY activated DESC, rowid DESC"
            )
        ),
    )
