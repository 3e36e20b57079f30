"""Every hostile archive through `releasehand-agent package unpack`, as root and as an ordinary user, with
Landlock and without: exit code 1 with code and reason, an empty destination, nothing else touched."""

import json
import os
import random
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from agent.unpack import landlock
from agent.unpack.process import library_places
from tests.fakes import harmless_tars, harmless_zips, hostile_tars, hostile_zips, withheld
from tests.fakes.hostile_tars import SMALL
from tests.fakes.users import ORDINARY, become, find_python, open_folder
from tests.faults.crossings import SEED
from tests.faults.tally import Tally

SAMPLE: Final = 8
ROOT: Final = Path(__file__).resolve().parents[2]
REFUSED: Final = "archive_refused: cannot accept the archive: "
_GROWTH: Final = "grows to more than"  # looked at from 256 MiB on by the command, and sooner by SMALL
_CONFIG: Final = f"""
agent_id = "host-1"
[unpack]
max_bytes = {SMALL.total_bytes}
max_entries = {SMALL.entries}
max_depth = {SMALL.depth}
timeout_s = {SMALL.seconds}
[[instance]]
id = "web-1"
service = "web"
root = "/srv/web-1"
driver = {{ type = "none" }}
"""


@dataclass(frozen=True)
class Case:
    """One archive; `reason` is a part of why it is refused, "" if it must be unpacked."""

    name: str
    data: bytes
    reason: str


def _cases() -> Iterator[Case]:
    hostile = {"tar": hostile_tars.CORPUS, "zip": hostile_zips.CORPUS}
    for kind, corpus in hostile.items():
        for name, (data, reason) in corpus.items():
            if _GROWTH not in reason:
                yield Case(f"{kind}: {name}", data, reason)
    harmless: Mapping[str, bytes] = harmless_tars.HARMLESS
    harmless = {**harmless, **{name: data for name, (data, _) in harmless_zips.HARMLESS.items()}}
    for name, data in harmless.items():
        yield Case(f"harmless: {name}", data, "")


CASES: Final = tuple(_cases())


@pytest.mark.timeout(300)
@pytest.mark.parametrize("confined", [True, False], ids=["landlock", "no-landlock"])
@pytest.mark.parametrize("user", [0, ORDINARY], ids=["root", "ordinary"])
def test_a_hostile_package_is_refused_by_the_command_and_leaves_nothing(
    user: int, confined: bool, tally: Tally, all_faults: bool
) -> None:
    if os.geteuid() != 0:
        if user == 0:
            pytest.skip("only root is root")
        user = os.geteuid()
    if confined and landlock.abi() < landlock.LEAST_ABI:
        pytest.skip("this kernel has no Landlock")
    cases = CASES if all_faults else random.Random(SEED + 2 * bool(user) + confined).sample(CASES, SAMPLE)
    wrong = []
    with open_folder() as top:
        folders = [top / f"{number}" for number in range(len(cases))]
        for folder, case in zip(folders, cases, strict=True):
            _prepare(folder, case, user)
        config = top / "agent.toml"
        config.write_text(_CONFIG)
        before = [_look_around(folder) for folder in folders]
        answers = _run(config, folders, user, confined=confined)
        for folder, case, facts, (code, said) in zip(folders, cases, before, answers, strict=True):
            wrong += [f"{case.name}: {what}" for what in _judge(folder, case, code, said, user)]
            if _look_around(folder) != facts:
                wrong.append(f"{case.name}: something outside the destination changed")
    who = "root" if user == 0 else "an ordinary user"
    tally.add(f"packages by {who}, {'with' if confined else 'without'} Landlock", len(cases), wrong)


def _prepare(folder: Path, case: Case, user: int) -> None:
    """Make what the command needs in `folder`, and something that it must leave alone."""
    folder.mkdir()
    (folder / "evil").write_bytes(b"precious")
    (folder / "package").write_bytes(case.data)
    (folder / "dest").mkdir(mode=0o755)
    os.chown(folder / "dest", user, user)


def _look_around(folder: Path) -> object:
    paths = [folder, *sorted(path for path in folder.iterdir() if path.name != "dest")]
    found = [(path, path.lstat()) for path in paths]
    facts = [(str(path), at.st_mode, at.st_uid, at.st_nlink, at.st_mtime_ns) for path, at in found]
    return facts, (folder / "evil").read_bytes(), sorted(path.name for path in folder.parent.iterdir())


def _run(config: Path, folders: Sequence[Path], user: int, *, confined: bool) -> list[tuple[int, str]]:
    """Unpack the package in each of `folders`; return exit codes and words."""
    other = user != os.geteuid()
    python = find_python(user if other else None)
    paths = [str(ROOT), *library_places()]
    code = f"import sys; sys.path += {paths!r}; from tests.fakes.package_command import main; main()"
    command = [
        *(become(user) if other else []),
        *([] if confined else [python, "-I", withheld.__file__]),
        *(python, "-I", "-B", "-c", code, str(config)),
        *map(str, folders),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/", timeout=280)
    assert ended.returncode == 0, ended.stderr
    return [tuple(json.loads(line)) for line in ended.stdout.splitlines()]


def _judge(folder: Path, case: Case, code: int, said: str, user: int) -> Iterator[str]:
    made = list((folder / "dest").rglob("*"))
    if case.reason:
        if code != 1:
            yield f"exit code {code}: {said}"
        if not said.startswith(REFUSED) or case.reason not in said or not said.strip().isprintable():
            yield f"it said: {said!r}"
        if made:
            yield f"the destination holds {made}"
    elif code != 0 or not made:
        yield f"it was not unpacked, exit code {code}: {said}"
    elif owners := {path.lstat().st_uid for path in made} - {user}:
        yield f"it belongs to {owners}"
