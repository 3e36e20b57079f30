"""Power cuts of the controller's database: every answer that was given holds afterwards."""

import asyncio
import json
import os
import random
import signal
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Final

import psutil

from shared.clock import SystemClock
from tests.fakes.waiting import until
from tests.faults.forks import ForkServer
from tests.powercut.agent_cuts import Count
from tests.powercut.disk import Disk, cut_power

_LONGEST_S: Final = 0.5


async def cut_ledger(
    disk: Disk, server: ForkServer, orders: Path, number: int, dice: random.Random, count: Count
) -> None:
    """Let the store work, cut its power, look at what is left."""
    database, answers, order = disk.mount / "controller.db", orders / "answers", orders / "ledger.json"
    order.write_text(
        json.dumps({"url": f"sqlite:///{database}", "answers": str(answers), "name": f"cut-{number}"})
    )
    before = _size(answers)
    work = asyncio.create_task(server.carry_out(order))
    await until(lambda: _size(answers) > before or work.done(), within_s=30)
    await SystemClock().sleep(dice.uniform(0, _LONGEST_S))
    (disk.mount / "canary").write_text(str(number))
    if work.done():
        count.violations.append(
            f"cut {number}: the store ended by itself: {order.with_suffix('.log').read_text()}"
        )
    said = _answers(answers)  # before: what is said while the power goes does not count
    cut_power(disk.mount)
    for child in psutil.Process(server.pid).children():
        os.kill(child.pid, signal.SIGKILL)
    await work
    count.cuts += 1
    if complaint := await asyncio.to_thread(disk.power_up):
        count.violations.append(f"cut {number}: fsck: {complaint}")
    canary = disk.mount / "canary"
    count.lost_canaries += not (canary.exists() and canary.read_text() == str(number))
    count.acked += len([one for one in said if one.startswith(f"cut-{number}-")])
    held = {}
    try:
        with closing(sqlite3.connect(database)) as tables:
            if (verdict := tables.execute("PRAGMA integrity_check").fetchone()[0]) != "ok":
                count.violations.append(f"cut {number}: {verdict}")
            held = dict(tables.execute("SELECT operation_id, status FROM operation").fetchall())
    except sqlite3.Error as exc:
        count.violations.append(f"cut {number}: the database cannot be read: {exc}")
    for deploy_id, status in said.items():
        if deploy_id not in held:
            count.violations.append(f"cut {number}: {deploy_id} was accepted and is lost")
        elif status == "cancelled" and held[deploy_id] != "cancelled":
            count.violations.append(f"cut {number}: {deploy_id} was cancelled and is {held[deploy_id]}")


def _answers(path: Path) -> dict[str, str]:
    """Each deployment with the last that was said of it. The line being written is left out."""
    whole, _, _ = path.read_text().rpartition("\n") if path.exists() else ("", "", "")
    return dict(line.split() for line in whole.splitlines())


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
