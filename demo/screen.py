"""How the demo is shown: on a terminal one line that moves for the step at hand, otherwise plain lines."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from rich.cells import set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from releasehand.cli.terminal import duration, glyphs, open_console
from releasehand.shown import escape_controls
from shared.clock import Clock

TITLE_COLUMNS: Final = 56
TIME_COLUMNS: Final = 10
INDENT: Final = "     "
REFRESHES_PER_SECOND: Final = 12


class Step(Protocol):
    """A step that is being carried out."""

    def note(self, text: str) -> None:
        """Show how far it is."""
        ...

    def done(self, text: str) -> None:
        """Say what was seen in the end; without it the step counts as failed."""
        ...


class Screen:
    """Standard output, as a terminal or as lines."""

    def __init__(self, clock: Clock) -> None:
        self._console, self._clock = open_console(), clock
        self._lively = self._console.is_terminal and not self._console.is_dumb_terminal
        self._steps = 0

    def headline(self, text: str) -> None:
        """Print a line that stands out, after an empty one."""
        self.say()
        self.say(text, "bold")

    def say(self, text: str = "", style: str = "") -> None:
        """Print lines as they are, so that they can be copied."""
        self._console.print(Text(text, style=style), soft_wrap=True)

    def tell(self, text: str, style: str = "") -> None:
        """Print a paragraph, wrapped between words and indented like what was seen in a step."""
        self._console.print(Padding(Text(text, style=style), (0, 0, 0, len(INDENT)), expand=False))

    def show(self, table: Table) -> None:
        """Print a table, indented like what was seen in a step."""
        self._console.print(Padding(table, (0, 0, 0, len(INDENT)), expand=False))

    @contextmanager
    def step(self, title: str, *, numbered: bool = True) -> Iterator[Step]:
        """Show a step while the block runs, and how it ended."""
        self._steps += numbered
        step = _Step(self._console, self._clock, str(self._steps) if numbered else " ", title)
        if not self._lively:
            self.say(f"{self._steps}. {title}" if numbered else title)
            try:
                yield step
            finally:
                took = duration(step.took_s)
                self.say(f"   ok after {took}: {step.outcome}" if step.outcome else f"   failed after {took}")
            return
        try:
            with Live(
                get_renderable=step.draw,
                console=self._console,
                transient=True,
                refresh_per_second=REFRESHES_PER_SECOND,
            ):
                yield step
        finally:
            self._console.print(step.ended())


class _Step:
    """Drawn by rich's refresh thread from whole values."""

    def __init__(self, console: Console, clock: Clock, number: str, title: str) -> None:
        self.outcome = ""
        self._number, self._title = number, title
        self._clock, self._started = clock, clock.monotonic()
        self._signs, self._note = glyphs(console), ""
        self._title_columns = max(10, min(TITLE_COLUMNS, console.width - len(INDENT) - TIME_COLUMNS))
        self._spinner = Spinner("dots" if self._signs.bar == "━" else "line", style="cyan")

    @property
    def took_s(self) -> float:
        """Seconds since it began."""
        return self._clock.monotonic() - self._started

    def note(self, text: str) -> None:
        self._note = text

    def done(self, text: str) -> None:
        self.outcome = text

    def draw(self) -> RenderableType:
        """The step at work."""
        self._spinner.update(text=self._headline("bold"))
        return Group(self._spinner, _line(f"{INDENT}{escape_controls(self._note)}", "dim"))

    def ended(self) -> RenderableType:
        """The step as it stays on the screen."""
        good = bool(self.outcome)
        line = Text.assemble(
            (f"{self._signs.good} ", "bold green") if good else (f"{self._signs.bad} ", "bold red"),
            self._headline(""),
        )
        return Group(line, _line(f"{INDENT}{self.outcome}", "dim")) if good else line

    def _headline(self, style: str) -> Text:
        return Text.assemble(
            (f"{self._number}  ", "cyan"),
            (set_cell_size(self._title, self._title_columns), style),
            (f"{duration(self.took_s):>{TIME_COLUMNS}}", "dim"),
        )


def _line(text: str, style: str) -> Text:
    return Text(text, style=style, no_wrap=True, overflow="ellipsis")
