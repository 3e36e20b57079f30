"""Writes manual pages (man-pages(7)) of the three commands into a folder, from what `--help` says.

python scripts/manual.py build/man"""

import os
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import typer
from typer.core import TyperGroup

from agent.cli.app import app as agent
from controller.__main__ import app as controller
from releasehand.cli.__main__ import app as caller

PAGES: Final = {"releasehand": 1, "releasehand-agent": 8, "releasehand-controller": 8}
COMMANDS: Final = {"releasehand": caller, "releasehand-agent": agent, "releasehand-controller": controller}
FILES: Final = {
    "releasehand-agent": ["/etc/releasehand/agent.toml", "/var/lib/releasehand-agent/"],
    "releasehand-controller": ["/etc/releasehand/controller.toml", "/var/lib/releasehand-controller/"],
}
_MARKUP: Final = re.compile(r"[`*]")


def write_page(name: str, section: int) -> str:
    """The page as roff."""
    command = typer.main.get_command(COMMANDS[name])
    day = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC).date().isoformat()
    summary = _plain(command.help or "").partition("\n")[0].rstrip(".")
    release = version("releasehand-daemons")
    lines = [
        f'.TH {name.upper()} {section} "{day}" "releasehand {release}" "releasehand"',
        ".SH NAME",
        _escape(f"{name} - {summary[:1].lower() + summary[1:]}"),
        ".SH SYNOPSIS",
        f".B {name}",
        '.RI [ options "] " command " [" arguments ]',
        ".SH COMMANDS",
        *_describe(command, (name,)),
    ]
    if name in FILES:
        lines += [".SH FILES", *(text for file in FILES[name] for text in (".TP", f".I {_escape(file)}"))]
    others = ", ".join(f"\\fB{_escape(other)}\\fR({PAGES[other]})" for other in PAGES if other != name)
    return "\n".join([*lines, ".SH SEE ALSO", others, ""])


def _describe(command: Any, path: tuple[str, ...]) -> Iterator[str]:
    """Each command with its arguments and options, groups by what is in them."""
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            if not inner.hidden:
                yield from _describe(inner, (*path, name))
        return
    with typer.Context(command, info_name=" ".join(path)) as context:
        usage = " ".join(command.collect_usage_pieces(context))
        yield from (".SS " + _escape(f"{' '.join(path)} {usage}"), *_paragraphs(command.help or ""))
        for parameter in command.get_params(context):
            if (record := parameter.get_help_record(context)) is not None:
                yield from (".TP", r"\fB" + _escape(record[0]) + r"\fR", _escape(_plain(record[1]) or " "))


def _paragraphs(text: str) -> Iterator[str]:
    for number, paragraph in enumerate(_plain(text).split("\n\n")):
        if number:
            yield ".PP"
        yield _escape(" ".join(paragraph.split()))


def _plain(text: str) -> str:
    return _MARKUP.sub("", text).strip()


def _escape(text: str) -> str:
    """What roff would take as its own, and typer's marks of choices."""
    safe = text.replace("\\", "\\e").replace("-", "\\-")
    return "\\&" + safe if safe.startswith((".", "'")) else safe


def main() -> None:
    """Write all pages below the folder that is named."""
    for name, section in PAGES.items():
        file = Path(sys.argv[1]) / f"man{section}" / f"{name}.{section}"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(write_page(name, section), encoding="utf-8")


if __name__ == "__main__":
    main()
