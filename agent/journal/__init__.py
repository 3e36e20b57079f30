"""The agent's memory: attempts, releases and reports on disk, in one SQLite file."""

from agent.journal.journal import Change, Journal, ReleaseMark
from agent.journal.tables import JournalError

__all__ = ["Change", "Journal", "JournalError", "ReleaseMark"]
