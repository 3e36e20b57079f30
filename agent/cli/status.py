"""`releasehand-agent status`: what people see of agent.cli.standing, and how long they wait for the link."""

import asyncio
import os
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from agent.cli.standing import (
    InstanceStanding,
    LinkStanding,
    Standing,
    StandingUnreadableError,
    TaskStanding,
    read_link_standing,
    read_standing,
)
from agent.config import AgentConfig, read_config
from agent.core.link_state import LinkCondition
from agent.start import BAD_CONFIG, CANNOT_RUN, tell_problems
from releasehand.cli.terminal import counted, duration, open_console, print_json, say
from releasehand.model.status import Phase, ServiceState
from releasehand.shown import escape_controls
from shared.clock import Clock, SystemClock
from shared.settings import ConfigError

LOOK_EVERY_S: Final = 0.2
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|m|h|)")
_UNITS: Final = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_STATES: Final = {ServiceState.RUNNING: "green", ServiceState.FAILED: "red", ServiceState.STOPPED: "dim"}
_LINKS: Final = {"online": "green", "connecting": "yellow", "offline": "red", "refused": "red"}


def parse_span(text: str) -> float:
    """Seconds from `60`, `60s`, `2min` or `1h`. Raises ValueError."""
    found = _SPAN.fullmatch(text.strip())
    if not found:
        raise ValueError("must be a time like 60s or 2min")
    return float(found[1]) * _UNITS[found[2]]


def run_status(config: Path, *, wait_s: float | None, as_json: bool, clock: Clock | None = None) -> int:
    """The exit code: 0; CANNOT_RUN where nothing can be told, or the agent is not online after `wait_s`;
    BAD_CONFIG with every problem on stderr."""
    clock = clock or SystemClock()
    try:
        settings = read_config(config, os.environ)
    except ConfigError as exc:
        tell_problems(config, exc.problems)
        return BAD_CONFIG
    try:
        standing = asyncio.run(_look(settings, wait_s, clock))
    except StandingUnreadableError as exc:
        sys.stderr.write(f"{escape_controls(str(exc))}\n")
        return CANNOT_RUN
    console = open_console()
    if as_json:
        print_json(console, standing)
    else:
        show_standing(console, standing, clock.now())
    if wait_s is None or standing.link.state == LinkCondition.ONLINE:
        return 0
    if not as_json:
        why = standing.link.why or f"it is {standing.link.state}"
        sys.stderr.write(escape_controls(f"not online after {wait_s:g} s: {why}") + "\n")
    return CANNOT_RUN


async def _look(settings: AgentConfig, wait_s: float | None, clock: Clock) -> Standing:
    ends_at = clock.monotonic() + (wait_s or 0.0)
    while clock.monotonic() < ends_at:
        _, link = await asyncio.to_thread(read_link_standing, settings)
        if link.state == LinkCondition.ONLINE:
            break
        await clock.sleep(LOOK_EVERY_S)
    return await read_standing(settings)


def show_standing(console: Console, standing: Standing, now: datetime) -> None:
    """For people."""
    name = standing.agent_id or "without a name"
    runs = f"runs as process {standing.pid}" if standing.pid else "does not run"
    say(console, (f"agent {name}", "bold"), f", version {standing.version}, {runs}")
    _show_link(console, standing.link, now)
    if standing.reports_waiting:
        say(
            console,
            f"outbox: {counted(standing.reports_waiting, 'report')} not acknowledged by the controller",
        )
    for problem in standing.problems:
        say(console, (f"problem: {problem}", "red"))
    say(console)
    if not standing.instances:
        say(console, "No instance is configured here.")
    else:
        console.print(_instance_table(standing.instances))
    for one in standing.instances:
        if one.problem:
            say(console, (f"{one.instance_id}: {one.problem}", "red"))
    if standing.tasks:
        say(console)
        console.print(_task_table(standing.tasks))


def _show_link(console: Console, link: LinkStanding, now: datetime) -> None:
    style = _LINKS.get(link.state, "red")
    if link.since is None:
        say(console, "link: ", (f"none: {link.why}", style))
        return
    words = f" for {duration((now - link.since).total_seconds())}"
    if link.controller:
        words += f", {link.controller}"
    if link.last_heard and link.state != LinkCondition.ONLINE:
        words += f", last heard of at {_say(link.last_heard)} UTC"
    say(console, "link: ", (link.state, style), words)
    if link.why:
        say(console, (f"      {link.why}", style))


def _instance_table(instances: list[InstanceStanding]) -> Table:
    table = _table("INSTANCE", "SERVICE", "ACTIVE", "STATE", "KEPT BESIDE IT")
    for one in instances:
        beside = [
            kept.version for kept in one.kept if one.active is None or kept.release != one.active.release
        ]
        table.add_row(
            _text(one.instance_id),
            _text(one.service),
            _text(one.active.version if one.active else "-"),
            _text(one.state.value, _STATES.get(one.state, "yellow")),
            _text(", ".join(beside) or "-", "dim"),
        )
    return table


def _task_table(tasks: list[TaskStanding]) -> Table:
    table = _table("LAST TASKS", "OPERATION", "", "VERSION", "TRY", "PHASE", "SINCE (UTC)", "")
    for one in tasks:
        good = one.phase in {Phase.DONE, Phase.CANCELLED}
        style = "yellow" if not one.finished else "green" if good else "red"
        why = f"{one.error_code.value}: {one.message}" if one.error_code else one.message
        table.add_row(
            _text(one.instance_id),
            _text(one.operation_id),
            _text(one.kind.value),
            _text(one.version),
            _text(str(one.attempt)),
            _text(one.phase.value if one.finished else f"{one.phase.value} …", style),
            _text(_say(one.entered_at), "dim"),
            _text(why, "" if one.finished else "yellow"),
        )
    return table


def _table(*titles: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for title in titles:
        table.add_column(title, no_wrap=True, overflow="ellipsis")
    return table


def _text(words: str, style: str = "") -> Text:
    return Text(escape_controls(words), style=style)


def _say(at: datetime) -> str:
    return f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}"
