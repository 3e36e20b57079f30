"""`releasehand-agent doctor`: what agent.doctor finds, for people or as JSON."""

import json
import os
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Final

from agent.config import load_config
from agent.core.finding import Finding, Level, problem, worst
from agent.doctor import examine
from agent.start import CANNOT_RUN
from releasehand.cli.terminal import counted, open_console, say
from releasehand.shown import escape_json
from shared.clock import SystemClock
from shared.settings import ConfigError

_MARKS: Final = {
    Level.OK: ("ok     ", "green"),
    Level.WARNING: ("warning", "yellow"),
    Level.PROBLEM: ("PROBLEM", "red"),
}


def run_doctor(config: Path, *, as_json: bool) -> int:
    """The exit code: 0, or CANNOT_RUN when there is a problem; warnings are none."""
    try:
        findings = examine(load_config(config, os.environ), SystemClock())
    except ConfigError as exc:
        findings = [_describe_config(config, str(one)) for one in exc.problems]
    if as_json:
        show_json(findings)
    else:
        show_findings(findings)
    return CANNOT_RUN if worst(findings) is Level.PROBLEM else 0


def show_json(findings: Sequence[Finding]) -> None:
    """Fields may be added; those that are here stay."""
    answer = {"level": worst(findings), "findings": [asdict(one) for one in findings]}
    sys.stdout.write(escape_json(json.dumps(answer, indent=2), keep="\n") + "\n")


def show_findings(findings: Sequence[Finding]) -> None:
    """For people: a line for each, and for what is not well why and how to mend it."""
    console = open_console()
    for one in findings:
        say(console, _MARKS[one.level], f"  {one.what}")
        if one.why:
            say(console, ("         why:  ", "dim"), one.why)
        if one.mend:
            say(console, ("         mend: ", "dim"), (one.mend, "bold"))
    counts = Counter(one.level for one in findings)
    problems, warnings = counts[Level.PROBLEM], counts[Level.WARNING]
    style = _MARKS[worst(findings)][1]
    say(console)
    say(console, (f"{counted(problems, 'problem')}, {counted(warnings, 'warning')}", style))


def _describe_config(config: Path, what: str) -> Finding:
    return problem(
        "config",
        str(config),
        f"{config}: {what}",
        why="an agent with such a file does not start",
        mend="correct it; releasehand-agent config check tells whether it is good",
    )
