"""Ten thousand operations over simulated fleets to which everything happens at once."""

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.tally import Tally
from tests.simulation import campaign

ROOT = Path(__file__).resolve().parents[2]
OPERATIONS, SAMPLE = 10_000, 40
WORKERS = 2  # cores; each has seeds of its own
FIRST_SEED = 1_000
SEEDS_EACH = 100_000


async def run_apart(operations: int, first_seed: int) -> tuple[Counter[str], list[str]]:
    """A campaign in a process of its own: what it did, and what was violated."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", campaign.__name__, str(operations), str(first_seed)),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told, trouble = await process.communicate()
    if process.returncode:
        return Counter(), [trouble.decode()]
    return Counter(json.loads(told)), []


@pytest.mark.timeout(7_200)
async def test_whatever_happens_every_operation_ends_in_time_and_tells_the_truth(
    tally: Tally, all_faults: bool
) -> None:
    operations = (OPERATIONS if all_faults else SAMPLE) // WORKERS
    async with asyncio.TaskGroup() as group:
        works = [
            group.create_task(run_apart(operations, FIRST_SEED + number * SEEDS_EACH))
            for number in range(WORKERS)
        ]
    done: Counter[str] = sum((work.result()[0] for work in works), Counter())
    violations = [violation for work in works for violation in work.result()[1]]
    run, steps = done.pop("operations", 0), done.pop("steps", 0)
    tally.note(f"simulated fleets: {run} operations, {steps} steps, {len(violations)} violations")
    for kind, count in done.items():
        tally.count(f"simulated: {kind}", count, [])
    tally.add("simulated: fleets", WORKERS, violations)
    assert run >= operations * WORKERS
