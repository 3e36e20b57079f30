"""docs/reference/agent-commands.md keeps step with the code: commands, fields, findings."""

import re
from pathlib import Path
from typing import Any

import typer

from agent.cli.app import app
from agent.cli.standing import InstanceStanding, LinkStanding, ReleaseStanding, Standing, TaskStanding
from agent.core.finding import Finding, Level

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = "\n" + (ROOT / "docs" / "reference" / "agent-commands.md").read_text(encoding="utf-8")
SOURCES = ("core/diagnosis.py", "core/root_diagnosis.py", "core/unit_diagnosis.py", "doctor/examination.py")
MORE_SOURCES = ("core/hook_diagnosis.py", "doctor/reach.py", "cli/doctor.py")
CHECK = re.compile(
    r'"(config|python|clock|trust|hooks|(?:agent|identity|reach|disk|root|unit|driver)(?:\.[a-z_]+)?)"'
)


def first_cells(heading: str) -> list[str]:
    """What stands in backquotes in the first column of the table below `heading`."""
    text = DOCUMENT.partition(f"\n{heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in text.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def commands_of(command: Any, path: str = "") -> set[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        return {path}
    return {name for word, one in inner.items() for name in commands_of(one, f"{path} {word}".strip())}


def test_every_command_is_told() -> None:
    told = first_cells("# Commands on a host")
    assert sorted(told) == sorted(commands_of(typer.main.get_command(app)))


def test_every_field_of_the_status_is_told() -> None:
    assert first_cells("## status") == list(Standing.model_fields)
    section = DOCUMENT.partition("\n## status\n")[2].partition("\n## ")[0]
    for model in (LinkStanding, InstanceStanding, ReleaseStanding, TaskStanding):
        for name in model.model_fields:
            assert f"`{name}`" in section, name


def test_every_finding_is_told() -> None:
    used = set()
    for name in (*SOURCES, *MORE_SOURCES):
        text = (ROOT / "agent" / name).read_text(encoding="utf-8")
        used |= set(CHECK.findall(re.sub(r"\(\s*\"", '("', text)))
    used -= {"agent", "driver"}  # subjects
    assert sorted(set(first_cells("## doctor"))) == sorted(used)
    section = DOCUMENT.partition("\n## doctor\n")[2]
    for field in Finding.__dataclass_fields__:
        assert f"`{field}`" in section
    for level in Level:
        assert f"`{level}`" in section
