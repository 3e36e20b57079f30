"""Writes the state diagrams of docs/architecture.md from the tables that the code runs by.

A diagram stands between `<!-- NAME: made by make docs -->` and `<!-- end -->`; what is between them is
replaced, all else is left alone. With `--check` nothing is written, and the exit code is 1 when the document
is not up to date.
"""

import re
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Final, TypeVar

from agent.core.recovery import RESUME, Shown
from controller.core import task
from releasehand.model import ENDED, Phase, Status
from shared import attempt

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)

DOCUMENT: Final = Path(__file__).resolve().parent.parent / "docs" / "architecture.md"
_BLOCK: Final = re.compile(r"(<!-- (?P<name>[a-z-]+): made by make docs -->\n).*?(<!-- end -->)", re.DOTALL)


class UnknownDiagramError(Exception):
    """The document asks for a diagram that nobody draws, or leaves one out."""


def draw_states(table: Mapping[tuple[StateT, EventT], StateT], first: StateT, ends: frozenset[StateT]) -> str:
    """A Mermaid state diagram; events that lead the same way share an arrow."""
    arrows: dict[tuple[StateT, StateT], list[str]] = {}
    for (state, event), to in table.items():
        arrows.setdefault((state, to), []).append(event)
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {first}"]
    lines += [f"    {state} --> {to}: {', '.join(events)}" for (state, to), events in arrows.items()]
    lines += [f"    {end} --> [*]" for end in sorted(ends)]
    return "\n".join([*lines, "```"])


def draw_attempt() -> str:
    return draw_states(attempt.TRANSITIONS, Phase.QUEUED, attempt.TERMINAL)


def draw_task() -> str:
    return draw_states(task.TRANSITIONS, Status.PENDING, ENDED)


def draw_resume() -> str:
    """A table: one row for each live phase, one column for each thing that `current` can name."""
    rows = [["phase", *Shown], ["---"] * (len(Shown) + 1)]
    live = (phase for phase in Phase if phase in attempt.LIVE)
    rows += [[phase, *(RESUME[phase, shown] for shown in Shown)] for phase in live]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


DIAGRAMS: Final[Mapping[str, Callable[[], str]]] = {
    "attempt": draw_attempt,
    "task": draw_task,
    "resume": draw_resume,
}


def render(document: str) -> str:
    """The document with every diagram drawn anew. Raises UnknownDiagramError."""
    asked = [block["name"] for block in _BLOCK.finditer(document)]
    if sorted(asked) != sorted(DIAGRAMS):
        raise UnknownDiagramError(f"the document has {sorted(asked)}, drawn are {sorted(DIAGRAMS)}")
    return _BLOCK.sub(lambda block: f"{block[1]}{DIAGRAMS[block['name']]()}\n{block[3]}", document)


def main() -> int:
    written = DOCUMENT.read_text(encoding="utf-8")
    drawn = render(written)
    if drawn == written:
        return 0
    if "--check" in sys.argv[1:]:
        print(f"{DOCUMENT.name} is not up to date: run make docs", file=sys.stderr)
        return 1
    DOCUMENT.write_text(drawn, encoding="utf-8")
    print(f"wrote {DOCUMENT.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
