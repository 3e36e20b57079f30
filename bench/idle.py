"""`make bench-idle`: what an agent takes of its host while nothing is to be done.

A real controller and a real agent, linked over TLS; the agent looks after instances whose services run. After
one deployment nothing happens but what always happens: looks at the host and its services, heartbeats both
ways. PSS is what a process has alone, and its part of what it shares with others; RSS counts that wholly."""

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final, NamedTuple

import psutil

from bench.figures import Figure, print_figures
from demo.errors import DemoError
from demo.installation import Installation, install
from demo.layout import Layout, Place, plan_layout
from demo.packages import Package, build_package
from releasehand import Client, ReleasehandError
from releasehand.model import DeployParams, Status
from shared.clock import SystemClock

BENCH: Final = "idle"
HOST: Final = "host-1"
PACKAGE: Final = Package("web", "v1")
SETTLE_S: Final = 10.0  # what follows a deployment is over by then
LOOKS: Final = 5
_CLOCK: Final = SystemClock()
_MIB: Final = 1 << 20


class Taken(NamedTuple):
    """What a process has used so far: seconds of processor, its children's with it, and switches to it."""

    cpu_s: float
    wakeups: int


def main() -> int:
    """Measure and print. Exit code 0, or 1 when something did not start."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=60.0, help="how long nothing is done")
    options.add_argument("--instances", type=int, default=3)
    chosen = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="releasehand-idle-", ignore_cleanup_errors=True) as made:
        layout = plan_idle(Path(made), chosen.instances)
        figures: list[Figure] = []
        try:
            figures = asyncio.run(measure(layout, chosen.seconds))
        except* (DemoError, ReleasehandError, OSError) as group:
            print(f"cannot measure: {group.exceptions[0]}", file=sys.stderr)
    print_figures(figures)
    return 0 if figures else 1


def plan_idle(folder: Path, instances: int) -> Layout:
    """One host with so many instances of one service."""
    layout = plan_layout(folder)
    ports = [place.port for place in layout.places]
    while len(ports) < instances:
        ports += [place.port for place in plan_layout(folder).places if place.port not in ports]
    places = tuple(
        Place(f"web-{number}", HOST, port, folder / HOST / "srv" / f"web-{number}")
        for number, port in enumerate(ports[:instances], 1)
    )
    return replace(layout, places=places)


async def measure(layout: Layout, seconds: float) -> list[Figure]:
    """Let the daemons be for `seconds` after a deployment; return what agent and controller took."""
    async with run_idle(layout) as installation:
        daemons = {"agent": installation.agents[HOST], "controller": installation.controller}
        processes = {name: psutil.Process(daemon.pid) for name, daemon in daemons.items()}
        await _CLOCK.sleep(SETTLE_S)
        before = {name: _taken(process) for name, process in processes.items()}
        looks: dict[str, list[tuple[float, float]]] = {name: [] for name in processes}
        began = _CLOCK.monotonic()
        for _ in range(LOOKS):
            await _CLOCK.sleep(seconds / LOOKS)
            for name, process in processes.items():
                memory = process.memory_full_info()
                looks[name].append((memory.pss / _MIB, memory.rss / _MIB))
        passed = _CLOCK.monotonic() - began
        installation.check()
        return [
            figure
            for name, process in processes.items()
            for figure in _figures(name, before[name], _taken(process), passed, looks[name])
        ]


@asynccontextmanager
async def run_idle(layout: Layout) -> AsyncIterator[Installation]:
    """Everything runs and has what it shall have. Raises DemoError, ReleasehandError."""
    async with install(layout, _CLOCK) as installation, Client(layout.api_url, layout.api_token) as client:
        digest = await asyncio.to_thread(build_package, PACKAGE, layout.packages)
        params = DeployParams(
            service=PACKAGE.service,
            version=PACKAGE.version,
            instances=layout.instances(PACKAGE.service),
            package_url=f"{layout.origin_url}/packages/{PACKAGE.file_name}",
            package_sha256=digest,
            deploy_id="idle",
        )
        await client.execute_deployment(params)
        status = await client.wait_for_deployment(params.deploy_id, timeout_s=60)
        if status.status is not Status.COMPLETED:
            raise DemoError(f"the deployment ended {status.status}: {status.instances[0].error_message}")
        yield installation


def _taken(process: psutil.Process) -> Taken:
    times, switches = process.cpu_times(), process.num_ctx_switches()
    cpu_s = times.user + times.system + times.children_user + times.children_system
    return Taken(cpu_s, switches.voluntary)


def _figures(
    name: str, before: Taken, after: Taken, seconds: float, looks: Sequence[tuple[float, float]]
) -> list[Figure]:
    shares, residents = zip(*looks, strict=True)
    return [
        Figure(BENCH, name, "pss", round(statistics.median(shares), 1), "MiB"),
        Figure(BENCH, name, "rss", round(statistics.median(residents), 1), "MiB"),
        Figure(BENCH, name, "cpu", round((after.cpu_s - before.cpu_s) / seconds * 100, 3), "%"),
        Figure(BENCH, name, "wakeups", round((after.wakeups - before.wakeups) / seconds, 2), "/s"),
    ]


if __name__ == "__main__":
    sys.exit(main())
