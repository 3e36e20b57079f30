"""What is written down about a service that we started (<root>/.service.json), for the next agent."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from agent.process import Process, boot_id, find_marked, leads_session
from shared.files import replace_file, sync_directory

TOKEN_VARIABLE = "RELEASEHAND_START"  # noqa: S105 — the name of a variable, not a secret


@dataclass(frozen=True)
class ServiceRecord:
    """A start that was meant (`pid` 0) or done. `token` is in the environment of all that came of it."""

    token: str
    boot: str
    pid: int = 0
    started: int = 0

    def leader(self) -> Process | None:
        """Return the process that was started, running or not; None if there never was one in this boot.

        An agent that was killed between its intent and its record left a process that only its token tells.
        """
        if self.boot != boot_id():
            return None
        if self.pid:
            return Process(self.pid, self.started)
        return next(
            (process for process in find_marked(TOKEN_VARIABLE, self.token) if leads_session(process)), None
        )

    def survivors(self) -> list[Process]:
        """Return everything still running that came of this start."""
        return find_marked(TOKEN_VARIABLE, self.token) if self.boot == boot_id() else []


def read_record(path: Path) -> ServiceRecord | None:
    """Return the record at `path`; None if there is none, or none that can be read."""
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    match found:
        case {"token": str(token), "boot": str(boot), "pid": int(pid), "started": int(started)}:
            return ServiceRecord(token, boot, pid, started)
        case _:
            return None


def write_record(path: Path, record: ServiceRecord) -> None:
    """Write `record`; durable on return."""
    replace_file(path, json.dumps(asdict(record)).encode())


def remove_record(path: Path) -> None:
    """Remove the record; durable on return. Safe to repeat."""
    path.unlink(missing_ok=True)
    sync_directory(path.parent)
