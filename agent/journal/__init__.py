"""The agent's memory: attempts, releases and reports on disk, in one SQLite file."""

from agent.journal.journal import Change, Journal, ReleaseMark
from agent.journal.shelf import ReleaseRow, Shelf, open_shelf
from agent.journal.tables import JOURNAL_NAME, JournalError

__all__ = [
    "JOURNAL_NAME",
    "Change",
    "Journal",
    "JournalError",
    "ReleaseMark",
    "ReleaseRow",
    "Shelf",
    "open_shelf",
]
