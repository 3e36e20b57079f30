"""SIGKILL of the pruner around each of its commits: what must stay has stayed, and the next round ends where
an undisturbed one does."""

import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert, select

from controller.store.engine import Database
from controller.store.tables import EVENT, HISTORY
from releasehand.model import HistoryAction, HistoryStatus
from tests.fakes.ledger import open_ledger
from tests.faults import pruner_main
from tests.faults.tally import Tally

POINTS: Final = ("prune:begun", "prune:written", "prune:committed")
TIMES: Final = 4  # a round surely passes each so often: two of events, two of history
DAYS: Final = 10
ROWS: Final = 1_200

Rows = list[tuple[Any, ...]]


async def make_old(folder: Path) -> str:
    """A database with events and history that are too old, and some that are not."""
    url = f"sqlite:///{folder}/controller.db"
    async with open_ledger(url) as ledger:
        host = await ledger.host("host-1", ["a", "b"], "v1")
        await ledger.install(host, "v2", "a")
        await ledger.start("v2", "b", deploy_id="d-open")
        now = ledger.clock.now()
    event = {
        "event": "agent_online",
        "agent_id": "host-1",
        "instance_id": "",
        "generation": 0,
        "attempt": 0,
        "phase": "",
        "outcome": "",
        "code": "",
        "message": "",
    }
    entry = {
        "instance_id": "a",
        "service": "user",
        "sha256": "",
        "action": HistoryAction.DEPLOY,
        "status": HistoryStatus.SUCCESS,
        "operation_id": "d",
    }
    database = Database(url)
    async with database.write() as conn:
        ages = [now - timedelta(days=40_000 if n < ROWS - 20 else -1_000_000) for n in range(ROWS)]
        await conn.execute(insert(EVENT), [event | {"at": at} for at in ages])
        await conn.execute(
            insert(HISTORY), [entry | {"at": at, "version": f"v{n % 30}"} for n, at in enumerate(ages)]
        )
    await database.close()
    return url


async def rows_of(url: str) -> tuple[Rows, Rows]:
    """All events and all history."""
    database = Database(url)
    try:
        async with database.read() as conn:
            found = [
                [tuple(row) for row in await conn.execute(select(table).order_by(table.c.id))]
                for table in (EVENT, HISTORY)
            ]
    finally:
        await database.close()
    return found[0], found[1]


def prune(url: str, arm: Path) -> int:
    """One round in a process of its own; how that ended."""
    program = [sys.executable, "-m", pruner_main.__name__, "--database", url]
    return subprocess.run([*program, "--days", str(DAYS), "--arm", str(arm)], check=False).returncode


@pytest.mark.timeout(600)
async def test_a_pruner_killed_at_any_point_keeps_what_is_needed_and_goes_on(
    all_faults: bool, tmp_path: Path, tally: Tally
) -> None:
    old_url = await make_old(tmp_path)
    arm, violations = tmp_path / "arm", []
    before = await rows_of(old_url)
    kills = [(point, nth) for point in POINTS for nth in range(1, TIMES + 1)]
    chosen = kills if all_faults else [("prune:written", 3)]
    undisturbed = _copy(old_url, tmp_path / "undisturbed")
    assert prune(undisturbed, arm) == 0
    wanted = await rows_of(undisturbed)
    assert all(len(left) < len(had) - ROWS / 2 for left, had in zip(wanted, before, strict=True))
    for number, (point, nth) in enumerate(chosen):
        url = _copy(old_url, tmp_path / f"killed-{number}")
        arm.write_text(f"{point} {nth}")
        if prune(url, arm) != -signal.SIGKILL:
            violations.append(f"{point} ({nth}) was never passed")
        for had, left, must_stay in zip(before, await rows_of(url), wanted, strict=True):
            if not set(must_stay) <= set(left) <= set(had):
                violations.append(f"{point} ({nth}): a row is gone that must stay, or is new")
        if prune(url, arm) != 0 or await rows_of(url) != wanted:
            violations.append(f"{point} ({nth}): the next round did not end where an undisturbed one does")
    tally.add("controller killed while it removes old rows", len(chosen), violations)


def _copy(url: str, folder: Path) -> str:
    folder.mkdir()
    shutil.copyfile(url.removeprefix("sqlite:///"), folder / "controller.db")
    return f"sqlite:///{folder}/controller.db"
