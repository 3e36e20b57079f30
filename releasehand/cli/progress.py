"""Progress of an operation: a small live area on a terminal, else one plain line for each change."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Protocol

from rich.cells import cell_len, set_cell_size
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from releasehand.client import Trouble
from releasehand.model import DeployStatus, RollbackStatus, Status, TaskStatus
from releasehand.shown import escape_controls

from .operation import Operation, remark, stage, view
from .terminal import Glyphs, counted, glyphs, say

MAX_ROWS: Final = 10
ROWS_AROUND: Final = 9
"""Lines of the live area and of the shell's prompt that are not rows."""
MAX_BAR_COLUMNS: Final = 48
MAX_NAME_COLUMNS: Final = 32
LINE_PER_PHASE_LIMIT: Final = 100
"""Above so many instances plain lines tell ends alone; a log with each phase of a fleet helps nobody."""
REFRESHES_PER_SECOND: Final = 8
STYLES: Final = {
    Status.FAILED: "red",
    Status.CANCELLED: "yellow",
    Status.COMPLETED: "green",
    Status.IN_PROGRESS: "cyan",
    Status.PENDING: "dim",
}
_ORDER: Final = (Status.FAILED, Status.CANCELLED, Status.IN_PROGRESS, Status.PENDING)


class Display(Protocol):
    """What is told while an operation is watched."""

    def change(self, answer: DeployStatus | RollbackStatus) -> None: ...

    def trouble(self, error: Trouble) -> None: ...


def display(console: Console) -> AbstractContextManager[Display]:
    """The display that fits `console`; nothing of the live one stays on the screen."""
    if console.is_terminal and not console.is_dumb_terminal:
        return _live(console)
    return _lines(console)


@contextmanager
def _lines(console: Console) -> Iterator[Display]:
    yield Lines(console)


@contextmanager
def _live(console: Console) -> Iterator[Display]:
    area = Area(console)
    live = Live(
        get_renderable=area.draw, console=console, transient=True, refresh_per_second=REFRESHES_PER_SECOND
    )
    area.redraw = live.refresh
    with live:
        yield area


class Lines:
    """One line for each change, so that a log can be read from top to bottom."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._told: dict[str, str] = {}
        self._begun = self._silent = False

    def change(self, answer: DeployStatus | RollbackStatus) -> None:
        operation = view(answer)
        if not self._begun:
            what = f"{operation.kind} {operation.id}: {operation.service} {operation.target}"
            say(self._console, f"{what} on {counted(operation.progress.total, 'instance')}")
        self._begun = True
        if self._silent:
            say(self._console, "the controller answers again")
        self._silent = False
        brief = len(operation.tasks) > LINE_PER_PHASE_LIMIT
        for task in operation.tasks:
            where = stage(task)
            ended = task.status in {Status.COMPLETED, Status.FAILED, Status.CANCELLED}
            fact = f"{where} {task.attempt}"
            if self._told.get(task.instance_id) == fact or (brief and not ended):
                continue
            self._told[task.instance_id] = fact
            notes = remark(task) if ended else f"attempt {task.attempt}" if task.attempt > 1 else ""
            say(self._console, f"{task.instance_id}: {where}", f", {notes}" if notes else "")

    def trouble(self, error: Trouble) -> None:
        if not self._silent:
            say(self._console, f"the controller does not answer, asking again ({error})")
        self._silent = True


class Area:
    """The live area. Drawn by rich's refresh thread from whole values that `change` puts in place."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._signs = glyphs(console)
        self._spinner = Spinner("dots" if self._signs.bar == "━" else "line", style="cyan")
        self._operation: Operation | None = None
        self._trouble = ""
        self.redraw: Callable[[], None] = lambda: None

    def change(self, answer: DeployStatus | RollbackStatus) -> None:
        self._operation, self._trouble = view(answer), ""
        self.redraw()

    def trouble(self, error: Trouble) -> None:
        self._trouble = f"The controller does not answer, asking again ({error})"
        self.redraw()

    def draw(self) -> RenderableType:
        operation = self._operation
        if operation is None:
            self._spinner.update(text=Text("Asking the controller"))
            return self._spinner
        self._spinner.update(text=_headline(operation))
        parts: list[RenderableType] = [self._spinner, _bar(operation, self._columns(), self._signs)]
        if self._trouble:
            parts.append(
                Text("  " + escape_controls(self._trouble), style="yellow", no_wrap=True, overflow="ellipsis")
            )
        rows = max(1, min(MAX_ROWS, self._console.height - ROWS_AROUND))
        return Group(*parts, *_rows(operation.tasks, rows, self._signs))

    def _columns(self) -> int:
        return max(10, min(MAX_BAR_COLUMNS, self._console.width - 36))


def _headline(operation: Operation) -> Text:
    verb = "Deploying" if operation.kind == "deployment" else "Rolling back"
    before = " " if operation.kind == "deployment" else " to "
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"{verb} {escape_controls(operation.service)}{before}")
    line.append(escape_controls(operation.target), style="bold")
    line.append(f" on {counted(operation.progress.total, 'instance')}")
    if operation.answer.cancelled_at:
        line.append("  cancelling", style="yellow")
    return line


def _bar(operation: Operation, columns: int, signs: Glyphs) -> Text:
    """Green for completed, red for failed, yellow for cancelled, dim for what is open; then the counts."""
    progress = operation.progress
    line = Text("  ", no_wrap=True, overflow="ellipsis")
    drawn = seen = 0
    for number, style in (
        (progress.completed, "green"),
        (progress.failed, "red"),
        (progress.cancelled, "yellow"),
        (progress.pending, "bright_black"),
    ):
        seen += number
        upto = columns * seen // max(1, progress.total)
        line.append(signs.bar * (upto - drawn), style=style)
        drawn = upto
    line.append(f"  {progress.completed:,} of {progress.total:,}")
    for number, word, style in (
        (progress.failed, "failed", "red"),
        (progress.cancelled, "cancelled", "yellow"),
    ):
        if number:
            line.append(f" {signs.dot} ").append(f"{number:,} {word}", style=style)
    return line


def _rows(tasks: list[TaskStatus], limit: int, signs: Glyphs) -> list[RenderableType]:
    """The instances worth looking at, failing ones first; completed ones are only counted."""
    listed = sorted((task for task in tasks if task.status in _ORDER), key=lambda t: _ORDER.index(t.status))
    if not listed:
        return []
    shown: list[RenderableType] = [Text(""), *task_lines(listed[:limit])]
    if len(listed) > limit:
        left = [task.status for task in listed[limit:]]
        words = [f"{left.count(s):,} {s.value.replace('_', ' ')}" for s in _ORDER if s in left]
        shown.append(Text(f"  {signs.more} and {', '.join(words)} more", style="dim"))
    return shown


def task_lines(tasks: list[TaskStatus]) -> list[RenderableType]:
    """Id, stage and remark, one instance a line; what does not fit is cut at the right, not wrapped."""
    names = [set_cell_size(name, min(cell_len(name), MAX_NAME_COLUMNS)) for name in map(_name, tasks)]
    name_columns = max(map(cell_len, names), default=0)
    stage_columns = max((len(stage(task)) for task in tasks), default=0)
    lines: list[RenderableType] = []
    for name, task in zip(names, tasks, strict=True):
        line = Text("  ", no_wrap=True, overflow="ellipsis")
        line.append(set_cell_size(name, name_columns) + "  ")
        line.append(f"{stage(task):<{stage_columns}}  ", style=STYLES[task.status])
        line.append(escape_controls(remark(task)), style="" if task.status is Status.FAILED else "dim")
        line.rstrip()
        lines.append(line)
    return lines


def _name(task: TaskStatus) -> str:
    return escape_controls(task.instance_id)
