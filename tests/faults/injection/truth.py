"""Whether link, journal, report and service of a host tell the same, and nothing else lies about."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from agent.core.record import AttemptRecord
from releasehand.model.status import Phase
from tests.faults.injection.scenes import Package
from tests.faults.order import ended_file

_ROOT_HOLDS: Final = {"current", "releases", ".staging", ".service.json", "service.log"}
_STATE_HOLDS: Final = {"agent.db", "agent.lock", "packages"}


@dataclass(frozen=True)
class Expected:
    """How the attempt of `generation` may have ended, and which version is live after which end."""

    generation: int
    live_after: Mapping[Phase, str]
    packages: Mapping[str, Package]
    """By version."""


def judge_after_fault(folder: Path, packages: Iterable[Package], *, live: Set[str]) -> Iterator[str]:
    """What is wrong right after the fault, before anybody repaired anything: one whole release must be
    current, one of the versions `live`."""
    root = folder / "srv"
    known = {one.release: one for one in packages}
    yield from _judge_releases(root, known)
    name = current(root)
    if name not in known or known[name].version not in live:
        yield f"right after the fault, current names {name or 'nothing'}"


def judge_end(folder: Path, expected: Expected) -> Iterator[str]:
    """What is wrong when the agent has been started again and says that it has ended its work."""
    root, known = folder / "srv", {one.release: one for one in expected.packages.values()}
    facts = json.loads(ended_file(folder).read_bytes())
    record, marks, live_ones = read_journal(folder / "state" / "agent.db", expected.generation)
    ends = [move for move in facts["moves"] if move["end"] and move["generation"] == expected.generation]
    if len(ends) != 1:
        yield f"there are {len(ends)} reports of the end"
        return
    [end] = ends
    phase, live = Phase(end["entered"]), current(root)
    if phase not in expected.live_after:
        yield f"it ended {phase}: {end['end']['code']}, {end['end']['message']}"
    elif expected.live_after[phase] and expected.packages[expected.live_after[phase]].release != live:
        yield f"it ended {phase} and current names {live or 'nothing'}"
    if record.phase is not phase or record.end is None or record.end.active.release != live:
        told = record.end.active.release if record.end else "no end"
        yield f"the journal says {record.phase} with {told}, and {live} is live"
    if end["end"]["active"]["release"] != live:
        yield f"the report names {end['end']['active']['release']} and current {live}"
    yield from _judge_marks(marks, live, phase, record)
    yield from _judge_service(root, facts, known.get(live), phase)
    yield from _judge_releases(root, known)
    yield from _judge_rest(folder)
    if live_ones:
        yield f"the journal holds {live_ones} unfinished attempts"


def current(root: Path) -> str:
    """The name that the link names, "" for none."""
    link = root / "current"
    return link.readlink().name if link.is_symlink() else ""


def read_journal(path: Path, generation: int) -> tuple[AttemptRecord, dict[str, tuple[int | None, int]], int]:
    """The attempt of `generation`, the releases' marks (good, order of activation), and how many attempts are
    unfinished. Raises ValueError if there is no such attempt."""
    with closing(sqlite3.connect(path)) as tables:
        [(text,)] = tables.execute("SELECT record FROM attempt WHERE generation = ?", (generation,))
        marks = tables.execute("SELECT name, good, activated FROM release").fetchall()
        [(unfinished,)] = tables.execute("SELECT count(*) FROM attempt WHERE live = 1")
    record = AttemptRecord.model_validate_json(text)
    return record, {name: (good, order) for name, good, order in marks}, unfinished


def _judge_marks(
    marks: Mapping[str, tuple[int | None, int]], live: str, phase: Phase, record: AttemptRecord
) -> Iterator[str]:
    newest = max(marks, key=lambda name: marks[name][1], default="")
    if phase is Phase.BROKEN:
        return
    if newest != live or marks[live][0] != 1:
        yield f"the journal takes {newest} for the newest good release: {marks}"
    if not record.target or record.target == live or record.left is not Phase.REVERTING:
        return
    blamed = marks[record.target][0] == 0
    if record.untouched and blamed:
        yield f"{record.target} was never switched to and is marked bad: {marks}"
    if not record.untouched and not blamed:
        yield f"{record.target} was taken back and is not marked bad: {marks}"


def _judge_service(root: Path, facts: Mapping[str, Any], live: Package | None, phase: Phase) -> Iterator[str]:
    if phase is Phase.BROKEN:
        return
    if live is None or facts["service"] != "running":
        yield f"the service is {facts['service']}"
        return
    if facts["directory"] != str(root / "releases" / live.release) or facts["answer"] != live.version:
        yield f"{live.version} is current, {facts['directory']} runs and answers {facts['answer']}"
    if facts["processes"] != 1:
        yield f"{facts['processes']} processes of the service run"


def _judge_releases(root: Path, known: Mapping[str, Package]) -> Iterator[str]:
    for path in sorted((root / "releases").iterdir()):
        if path.name.startswith("."):
            continue
        package = known.get(path.name) or known.get(path.name.rpartition("-")[0])  # "-2": installed again
        if package is None:
            yield f"releases/ holds {path.name}"
        else:
            yield from judge_tree(path, package)


def judge_tree(path: Path, package: Package) -> Iterator[str]:
    """What of a release is not exactly what its package holds."""
    links = {str(p.relative_to(path)): str(p.readlink()) for p in path.rglob("*") if p.is_symlink()}
    files = {str(p.relative_to(path)): p for p in path.rglob("*") if p.is_file() and not p.is_symlink()}
    if links != package.links or files.keys() != package.files.keys():
        yield f"{path.name} is not whole: {sorted(files)}, {links}"
        return
    yield from (
        f"{path.name}/{name} has another content"
        for name, file in files.items()
        if file.read_bytes() != package.files[name]
    )
    if not files["serve.py"].stat().st_mode & 0o111:
        yield f"{path.name}/serve.py cannot be executed"


def _judge_rest(folder: Path) -> Iterator[str]:
    root, state = folder / "srv", folder / "state"
    for place, allowed in ((root, _ROOT_HOLDS), (state, _STATE_HOLDS)):
        if left := sorted(path.name for path in place.iterdir() if path.name not in allowed):
            yield f"left in {place.name}/: {left}"
    if left := sorted(path.name for path in (root / ".staging").iterdir()):
        yield f"left in .staging: {left}"
    releases = {path.name for path in (root / "releases").iterdir()}
    if left := sorted(
        name for name in releases if name[0] == "." and name[1:].removesuffix(".json") not in releases
    ):
        yield f"left in releases/: {left}"
    for path in sorted((state / "packages").glob("*")):
        name = path.name.removesuffix(".package")
        if name == path.name:
            yield f"left in packages/: {path.name}"
        elif hashlib.sha256(path.read_bytes()).hexdigest() != name:
            yield f"packages/{path.name} holds something else"
