"""Writes the state diagrams and tables of docs/ from the tables that the code runs by.

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

from agent.core.recovery import RESUME, Resume, Shown
from controller.core import task
from releasehand.model import ENDED, Phase, Status
from shared import attempt

StateT = TypeVar("StateT", bound=StrEnum)
EventT = TypeVar("EventT", bound=StrEnum)

DOCS: Final = Path(__file__).resolve().parent.parent / "docs"
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


def draw_crash() -> str:
    """The same in words, for people who look after hosts."""
    said = {
        Resume.REDO: "the phase again",
        Resume.REVERT: "back to the previous release",
        Resume.GIVE_UP: "the attempt ends as it stands",
    }
    head = ["the agent died in", "`current` names the new release", "… the previous one", "… another"]
    rows = [head, ["---"] * len(head)]
    live = (phase for phase in Phase if phase in attempt.LIVE)
    rows += [[f"`{phase}`", *(said[RESUME[phase, shown]] for shown in Shown)] for phase in live]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


Diagrams = Mapping[str, Callable[[], str]]
DIAGRAMS: Final[Diagrams] = {"attempt": draw_attempt, "task": draw_task, "resume": draw_resume}
DOCUMENTS: Final[Mapping[Path, Diagrams]] = {
    DOCS / "architecture.md": DIAGRAMS,
    DOCS / "explanation" / "on-the-host.md": {"attempt": draw_attempt, "crash": draw_crash},
}


def render(document: str, diagrams: Diagrams = DIAGRAMS) -> str:
    """The document with each of `diagrams` drawn anew. Raises UnknownDiagramError."""
    asked = [block["name"] for block in _BLOCK.finditer(document)]
    if sorted(asked) != sorted(diagrams):
        raise UnknownDiagramError(f"the document has {sorted(asked)}, drawn are {sorted(diagrams)}")
    return _BLOCK.sub(lambda block: f"{block[1]}{diagrams[block['name']]()}\n{block[3]}", document)


def main() -> int:
    code = 0
    for path, diagrams in DOCUMENTS.items():
        written = path.read_text(encoding="utf-8")
        drawn = render(written, diagrams)
        if drawn == written:
            continue
        if "--check" in sys.argv[1:]:
            print(f"{path.name} is not up to date: run make docs", file=sys.stderr)
            code = 1
        else:
            path.write_text(drawn, encoding="utf-8")
            print(f"wrote {path.name}")
    return code


if __name__ == "__main__":
    sys.exit(main())
