"""What a one-shot agent (tests.faults.one_shot) is told to do, and what it tells."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from shared.frames import Move, Ref

INSTANCE: Final = "web-1"
SERVICE: Final = "web"
MARK: Final = "ONE_SHOT_HOST"
WORKER, JOURNAL, MAIN, CHILD = "worker", "journal", "main", "child"
TRACEES: Final = (MAIN, WORKER, JOURNAL, CHILD)
"""Threads of the agent by what they do, and the process that unpacks."""

END: Final = "end"
"""The checkpoint where the end of the command has been told."""

JOURNAL_FAILED: Final = 3
"""Exit status when the agent could not start because its journal was refused: it is to be started again."""


@dataclass(frozen=True)
class Trace:
    """A strace of one tracee: `options` say what it does, `log` is where it writes."""

    tracee: str
    options: tuple[str, ...]
    log: str


@dataclass(frozen=True)
class Order:
    """What to do with the host in `folder`. `command` is the JSON of an Execute, "" to do nothing but look.

    `runs` is the release whose process is to be there before anything begins; `at_start` begins the traces
    with the recovery of the agent instead of with the command. `kill_at` is a name that the agent's
    checkpoint is told. The end is told in `ended_file` (Facts); with `speak` each report stands on stdout as
    soon as a controller could have it. `cut_at` cuts the power of the file system at `mount` at a checkpoint
    of that name, or when the end can be told (END). Process 1 of a namespace ends what earlier orders left
    running before it serves an order that does not `follow` from them."""

    folder: str
    port: int
    ca_file: str
    command: str
    runs: str = ""
    at_start: bool = False
    kill_at: str = ""
    traces: tuple[Trace, ...] = ()
    speak: bool = False
    follows: bool = False
    cut_at: str = ""
    mount: str = ""

    @classmethod
    def read(cls, path: Path) -> "Order":
        found = json.loads(path.read_bytes())
        traces = tuple(Trace(one["tracee"], tuple(one["options"]), one["log"]) for one in found.pop("traces"))
        return cls(**found, traces=traces)

    def write(self, path: Path) -> Path:
        path.write_text(json.dumps(asdict(self)))
        return path


@dataclass(frozen=True)
class Facts:
    """What is true at the end, as the host itself shows it."""

    moves: list[dict[str, Any]]
    service: str
    """The state of the service; its process' directory and answer are "" if there is none."""
    directory: str
    answer: str
    processes: int
    """How many processes there are that a start of the service made."""


def ended_file(folder: Path) -> Path:
    """Where the facts about the host in `folder` are told: beside it, so that no call of the agent's is."""
    return folder.with_name(f"{folder.name}.ended.json")


def is_end(move: Move, ref: Ref) -> bool:
    """Whether `move` tells the end of the attempt `ref`."""
    return move.end is not None and (move.generation, move.attempt) == (ref.generation, ref.attempt)
