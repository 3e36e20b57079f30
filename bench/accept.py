"""How fast the store accepts and answers, on a temporary SQLite file: one JSON object a line.

python -m bench.accept [--profile]
"""

import asyncio
import cProfile
import json
import pstats
import resource
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any, Final

from controller.core.acceptance import WHOLE
from controller.store import Store, open_store
from releasehand.model import DeployParams, OperationKind
from shared.clock import SystemClock
from shared.frames import Active, Hello, InstanceState

SIZES: Final = (10, 1_000, 10_000)
PER_AGENT: Final = 10
ROUNDS: Final = 3


def tell(case: str, metric: str, value: float) -> None:
    line = {"bench": "accept", "case": case, "metric": metric, "value": round(value, 4), "unit": "s"}
    print(json.dumps(line), flush=True)


def spent_s() -> float:
    """CPU time of all threads: on a busy machine it says more than the wall clock."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def measure(case: str, call: Callable[[int], Awaitable[Any]]) -> None:
    clock = SystemClock()
    took: list[float] = []
    cpu: list[float] = []
    for turn in range(ROUNDS):
        started, before = clock.monotonic(), spent_s()
        await call(turn)
        took.append(clock.monotonic() - started)
        cpu.append(spent_s() - before)
    tell(case, "cpu", min(cpu))
    tell(case, "best", min(took))
    tell(case, "median", statistics.median(took))


async def fill(store: Store, count: int) -> list[str]:
    """`count` running instances, PER_AGENT of them on each agent."""
    names = [f"i-{n:05}" for n in range(count)]
    for first in range(0, count, PER_AGENT):
        instances = [
            InstanceState(
                instance_id=name,
                service="user",
                active=Active(release="v1-x", version="v1", sha256="a" * 64),
            )
            for name in names[first : first + PER_AGENT]
        ]
        await store.greet(
            Hello(
                agent_id=f"host-{first}",
                agent_version="0",
                host="h",
                boot_id="b",
                incarnation="i",
                last_n=0,
                instances=instances,
            )
        )
    return names


async def run() -> None:
    with tempfile.TemporaryDirectory(prefix="releasehand-bench-") as folder:
        store = await open_store(f"sqlite:///{folder}/controller.db", SystemClock())
        try:
            names = await fill(store, max(SIZES))
            for size in SIZES:
                await bench_size(store, names[:size])
        finally:
            await store.close()


async def bench_size(store: Store, names: list[str]) -> None:
    size = len(names)

    def name_of(turn: int) -> str:
        return f"d-{size}-{turn}"

    async def accept(turn: int) -> None:
        if turn:
            await store.cancel(OperationKind.DEPLOYMENT, name_of(turn - 1), caller="bench")
        clock = SystemClock()
        started, before = clock.monotonic(), spent_s()
        params = DeployParams(
            service="user",
            version="v2",
            instances=names,
            package_url="https://p.example/v2.tar.gz",
            deploy_id=name_of(turn),
        )
        await store.accept_deployment(params, caller="bench")
        accepted.append(clock.monotonic() - started)
        cpu.append(spent_s() - before)

    accepted: list[float] = []
    cpu: list[float] = []
    for turn in range(ROUNDS):
        await accept(turn)
    tell(f"accept-{size}", "cpu", min(cpu))
    tell(f"accept-{size}", "best", min(accepted))
    tell(f"accept-{size}", "median", statistics.median(accepted))
    last = name_of(ROUNDS - 1)
    await measure(f"status-{size}", lambda _: store.deploy_status(last, WHOLE))
    await measure("versions-10000", lambda _: store.service_versions("user", include_stopped=True))
    clock = SystemClock()
    started = clock.monotonic()
    await store.cancel(OperationKind.DEPLOYMENT, last, caller="bench")
    tell(f"cancel-{size}", "once", clock.monotonic() - started)


def main() -> None:
    if "--profile" not in sys.argv:
        asyncio.run(run())
        return
    profile = cProfile.Profile()
    profile.runcall(asyncio.run, run())
    pstats.Stats(profile).sort_stats("cumulative").print_stats(45)


if __name__ == "__main__":
    main()
