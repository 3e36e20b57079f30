"""`releasehand-agent leave`: what agent.toml says, how it went, and what is left to do."""

import asyncio
import os
import sys
from pathlib import Path

from agent.config import read_config
from agent.journal import JOURNAL_NAME, JournalError
from agent.journal.glance import Glance, glance_at
from agent.leave import Departure, LeaveError, leave
from agent.start import BAD_CONFIG, CANNOT_RUN, DEFAULT_CONFIG, DEFAULT_STATE_DIR, tell_problems
from releasehand.cli.terminal import counted
from releasehand.shown import escape_controls
from shared.clock import SystemClock
from shared.settings import ConfigError


def run_leave(config: Path, state_dir: Path | None, *, offline: bool) -> int:
    """The exit code: 0 when the host is no agent (any more), CANNOT_RUN when nothing was changed, or
    BAD_CONFIG with every problem on stderr."""
    try:
        place, url = (state_dir, "") if state_dir else _read_config(config)
        departure = asyncio.run(leave(place, SystemClock(), url=url, offline=offline))
    except ConfigError as exc:
        tell_problems(config, exc.problems)
        return BAD_CONFIG
    except LeaveError as exc:
        return _fail(str(exc))
    except OSError as exc:
        return _fail(f"cannot leave: {exc.filename or ''}: {exc.strerror or exc}")
    for line in (*describe(departure), *_describe_rest(place)):
        sys.stdout.write(f"{escape_controls(line)}\n")
    return 0


def describe(departure: Departure) -> list[str]:
    """What was done, and what a person still has to do."""
    name, url = departure.agent_id or "ID", departure.url
    if not departure.joined:
        return ["this host has joined no controller: there is nothing to leave"]
    if departure.released is not None:
        given_up = counted(departure.released, "instance")
        return [f"agent {name} left {url}: its certificates are revoked, {given_up} released"]
    was = f"agent {name} of {url}" if url else "an agent, whose identity could not be read"
    there = (
        f"releasehand-controller agent revoke {name}, then DELETE /v1/instance/INSTANCE for each of its own"
    )
    return [
        f"this host has forgotten that it was {was}. The controller does not know it. There:",
        f"  {there}",
    ]


def _describe_rest(state_dir: Path) -> list[str]:
    try:
        glance = glance_at(state_dir / JOURNAL_NAME) or Glance()
    except (JournalError, OSError):
        return []
    lines = ["What is deployed here stays as it is."] if glance.releases else []
    unfinished = [record for record in glance.attempts if record.live]
    lines += [
        f"{one.ref.instance_id}: {one.command.version} was not brought to its end ({one.phase.value}): look"
        " at what runs there"
        for one in unfinished
    ]
    return lines


def _read_config(config: Path) -> tuple[Path, str]:
    """The state directory, and where the controller is. A host may leave when its configuration is gone.
    Raises ConfigError."""
    if not config.exists() and config == DEFAULT_CONFIG:
        return DEFAULT_STATE_DIR, ""
    settings = read_config(config, os.environ)
    return settings.state_dir, settings.controller.url or ""


def _fail(text: str) -> int:
    sys.stderr.write(f"{escape_controls(text)}\n")
    return CANNOT_RUN
