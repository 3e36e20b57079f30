"""The file in which a running agent says how its link is, for `releasehand-agent status`.

`link.json` in the unit's runtime directory, or in the state directory where there is none; written by rename
at each change, so a reader sees one state whole. It says nothing once the process that wrote it is gone."""

import asyncio
import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from agent.core.link_state import LinkCondition, LinkState
from shared.files import open_file, replace_file
from shared.logs import get_log

FILE_NAME: Final = "link.json"
RUNTIME_DIR: Final = Path("/run/releasehand-agent")
"""Of the units; RuntimeDirectory= in systemd/."""
_MAX_BYTES: Final = 64 * 1024

log = get_log(__name__)


def link_dir(environment: Mapping[str, str], state_dir: Path) -> Path:
    """Where the agent with this environment writes: systemd.exec(5), RuntimeDirectory=."""
    first = environment.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    return Path(first) if first.startswith("/") else state_dir


class LinkFile:
    """For the agent that holds the state directory."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE_NAME
        self._failed = False

    async def write(self, state: LinkState) -> None:
        """A file that cannot be written is told in the log, once: the work does not depend on it."""
        try:
            await asyncio.to_thread(replace_file, self._path, _encode(state), durable=False)
            self._failed = False
        except OSError as exc:
            if not self._failed:
                log.warning("state of the link cannot be shown", file=str(self._path), reason=str(exc))
            self._failed = True


def read_link(holder: int, state_dir: Path) -> LinkState | None:
    """What the agent with this process says; None when it has said nothing yet.

    Raises PermissionError for a file that is there and may not be read. The folder is the agent's, the reader
    may be root: what is no file of an agent counts as none."""
    for folder in (link_dir(os.environ, RUNTIME_DIR), RUNTIME_DIR, state_dir):
        try:
            with open_file(folder / FILE_NAME) as file:
                content = file.read(_MAX_BYTES + 1)
        except PermissionError:
            raise
        except OSError:
            continue
        found = _decode(content) if len(content) <= _MAX_BYTES else None
        if found is not None and found[0] == holder:
            return found[1]
    return None


def _encode(state: LinkState) -> bytes:
    tree = {
        "pid": os.getpid(),
        "state": state.condition.value,
        "since": state.since.isoformat(),
        "controller": state.controller,
        "last_heard": state.last_heard.isoformat() if state.last_heard else None,
        "why": state.why,
    }
    return json.dumps(tree).encode() + b"\n"


def _decode(content: bytes) -> tuple[int, LinkState] | None:
    """The process that wrote it, and what; None for what no agent of this format wrote."""
    try:
        tree = json.loads(content)
        heard = tree["last_heard"]
        state = LinkState(
            LinkCondition(tree["state"]),
            datetime.fromisoformat(tree["since"]).astimezone(UTC),
            str(tree["controller"]),
            datetime.fromisoformat(heard).astimezone(UTC) if heard else None,
            str(tree["why"]),
        )
        return int(tree["pid"]), state
    except (ValueError, TypeError, LookupError, OverflowError, RecursionError):
        return None
