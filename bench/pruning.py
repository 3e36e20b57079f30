"""Whether old rows that are being removed slow who reads:

    python -m bench.pruning [--database URL] [--seconds N]

The same looks are made in turn with and without a round of the pruner, in one process as in a controller, on
a million entries of history (half of them of one instance) and 800,000 events that are all too old."""

import argparse
import asyncio
import statistics
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Final

from bench.api import BENCH, SIZES
from bench.api_rows import SERVICE, fill
from bench.figures import Figure, print_figures
from controller.core.acceptance import InstancePage
from controller.pruner import Pruner, Retention
from controller.sealing import load_keyring
from controller.store import Store, open_store
from shared.clock import SystemClock

NOTHING: Final = timedelta(0)
TURNS: Final = 10
PAUSE_S: Final = 0.02  # between two looks, as of many callers

Look = Callable[[], Awaitable[Any]]


@asynccontextmanager
async def _pruning(store: Store, wanted: bool) -> Any:
    """Remove old rows meanwhile, if that is wanted."""
    clock = SystemClock()
    task = asyncio.create_task(Pruner(store, Retention(NOTHING, NOTHING), clock).prune()) if wanted else None
    try:
        yield
    finally:
        if task is not None:
            assert not task.done(), "there was too little to remove"
            task.cancel()
            await asyncio.wait([task])


async def compare(database: str, names: list[str], seconds: float) -> list[Figure]:
    """Milliseconds of each look alone and while old rows are removed, and how many times as much that is."""
    store = await open_store(database, SystemClock(), load_keyring(database, None, ()))
    looks: dict[str, Look] = {
        "history": lambda: store.version_history(names[1], limit=100, offset=0),
        "status": lambda: store.deploy_status("past-50001", InstancePage()),
        "versions-10000": lambda: store.service_versions(SERVICE, include_stopped=True),
    }
    took: dict[tuple[str, bool], list[float]] = {}
    try:
        for look in looks.values():
            await look()
        for _ in range(TURNS):
            for wanted in (False, True):
                async with _pruning(store, wanted):
                    await _look_for(seconds / TURNS, looks, took, wanted)
    finally:
        await store.close()
    figures = []
    for case in looks:
        for name, measure in (("median", statistics.median), ("p95", _p95)):
            alone, beside = measure(took[case, False]), measure(took[case, True])
            label = f"{case} while pruning"
            figures += [
                Figure(BENCH, label, f"{name} alone", round(alone, 2), "ms"),
                Figure(BENCH, label, name, round(beside, 2), "ms"),
                Figure(BENCH, label, f"{name} ratio", round(beside / alone, 2), "x"),
            ]
    return figures


async def _look_for(
    seconds: float, looks: dict[str, Look], took: dict[tuple[str, bool], list[float]], wanted: bool
) -> None:
    clock = SystemClock()
    until = clock.monotonic() + seconds
    while clock.monotonic() < until:
        for case, look in looks.items():
            started = clock.monotonic()
            await look()
            took.setdefault((case, wanted), []).append(1_000 * (clock.monotonic() - started))
            await clock.sleep(PAUSE_S)


def _p95(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.95)]


async def run(database: str, seconds: float) -> list[Figure]:
    return await compare(database, await fill(database, SIZES[-1]), seconds)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", default="")
    parser.add_argument("--seconds", type=float, default=30.0, help="Of each, with and without.")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="releasehand-bench-") as folder:
        database = asked.database or f"sqlite:///{folder}/controller.db"
        print_figures(asyncio.run(run(database, asked.seconds)))


if __name__ == "__main__":
    main()
