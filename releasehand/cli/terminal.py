"""Text for people: what comes from elsewhere is made harmless, what we say is short."""

import io
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.console import Console
from rich.text import Text

from releasehand.shown import escape_controls, escape_json

if TYPE_CHECKING:
    from pydantic import BaseModel

PIPE_WIDTH: Final = 10_000
"""Columns of an output that is no terminal: nothing is wrapped or cut there."""


@dataclass(frozen=True)
class Glyphs:
    """Signs that the output can show."""

    good: str
    bad: str
    bar: str
    dot: str
    more: str


FANCY: Final = Glyphs(good="✓", bad="✗", bar="━", dot="·", more="…")
PLAIN: Final = Glyphs(good="ok:", bad="error:", bar="=", dot="-", more="...")


def open_console(*, stderr: bool = False) -> Console:
    """A console that reads no markup, so that brackets in names stay what they are."""
    stream = sys.stderr if stderr else sys.stdout
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(
            errors="backslashreplace"
        )  # a name that the locale cannot show must not end the run
    width = None if stream.isatty() else PIPE_WIDTH
    return Console(file=stream, width=width, markup=False, highlight=False, emoji=False)


def glyphs(console: Console) -> Glyphs:
    return PLAIN if console.options.ascii_only or os.environ.get("TERM") == "dumb" else FANCY


def say(console: Console, *parts: str | tuple[str, str]) -> None:
    """One line of text and (text, style) parts; never wrapped, always escaped."""
    line = Text()
    for part in parts:
        words, style = (part, "") if isinstance(part, str) else part
        line.append(escape_controls(words), style=style)
    console.print(line, soft_wrap=True)


def print_json(console: Console, model: "BaseModel") -> None:
    """Indented JSON in ASCII alone, so that no terminal acts on it."""
    text = json.dumps(model.model_dump(mode="json"), indent=2, ensure_ascii=True)
    console.file.write(escape_json(text, keep="\n") + "\n")
    console.file.flush()


def counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def duration(seconds: float) -> str:
    """`8.4 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 60:
        return f"{max(0.0, seconds):.1f} s"
    minutes, rest_s = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left:02} min" if hours else f"{minutes} min {rest_s:02} s"


def megabytes(done: int, total: int) -> str:
    if total <= 0:
        return f"{done / 1e6:.1f} MB"
    return f"{min(100, done * 100 // total):3d} %  {done / 1e6:.1f} of {total / 1e6:.1f} MB"


def json_path(parts: tuple[Any, ...]) -> str:
    return "/".join(str(part) for part in parts)
