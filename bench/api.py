"""How fast a real controller answers over HTTP, with large services, long histories and many operations:

    python -m bench.api [--database URL] [--rounds N]

The rows are made first, by the store and by bulk inserts; then `releasehand-controller serve` is started on
them and asked. Without a URL they are in a SQLite file in a temporary folder."""

import argparse
import asyncio
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil

from bench.api_rows import PAST, SERVICE, fill
from bench.figures import Figure, print_figures
from shared.clock import SystemClock
from tests.fakes.processes import free_ports

BENCH: Final = "api"
TOKEN: Final = "the-token-of-the-benchmark"  # noqa: S105 - of a controller that lives for a minute
SIZES: Final = (10, 1_000, 10_000)
_FREE: Final = free_ports()
PORTS: Final = (next(_FREE), next(_FREE))
_START_WITHIN_S: Final = 60.0

Call = Callable[[], Awaitable[Any]]


class Api:
    """Calls that are read to their last byte."""

    def __init__(self, session: aiohttp.ClientSession, controller: psutil.Process) -> None:
        self._session, self._controller = session, controller
        self.figures: list[Figure] = []

    async def post(self, path: str, body: dict[str, Any]) -> None:
        async with self._session.post(path, json=body) as answer:
            text = await answer.text()
            assert answer.status == 200, text

    async def get(self, path: str) -> None:
        async with self._session.get(path) as answer:
            text = await answer.text()
            assert answer.status == 200, text

    async def measure(self, case: str, calls: list[Call], after: Call | None = None) -> None:
        """Best and median of `calls`, one at a time, and the controller's CPU time for one; `after` each, not
        measured. On a busy machine the CPU time says more than the wall clock."""
        clock, took, spent = SystemClock(), [], []
        for call in calls:
            started, before = clock.monotonic(), self._spent_s()
            await call()
            took.append(1_000 * (clock.monotonic() - started))
            spent.append(1_000 * (self._spent_s() - before))
            if after is not None:
                await after()
        self.figures.append(Figure(BENCH, case, "best", round(min(took), 2), "ms"))
        self.figures.append(Figure(BENCH, case, "median", round(statistics.median(took), 2), "ms"))
        self.figures.append(Figure(BENCH, case, "cpu", round(statistics.mean(spent), 2), "ms"))

    def _spent_s(self) -> float:
        """It has a resolution of 10 ms."""
        times = self._controller.cpu_times()
        return float(times.user + times.system)


async def ask_everything(api: Api, names: list[str], rounds: int) -> None:
    """Every case, after a first call that fills caches of the process."""
    await api.get(f"/v1/service/{SERVICE}/versions")
    for size in SIZES:
        await accept(api, names[:size], rounds)
    largest = f"d-{SIZES[-1]}-{rounds - 1}"
    paths = {
        "status-10000": f"/v1/deployment/{largest}",
        "status-10000, a page of 100": f"/v1/deployment/{largest}?instance_limit=100",
        "versions-10000": f"/v1/service/{SERVICE}/versions?include_stopped=true",
        "instances-10000, a page of 100": f"/v1/service/{SERVICE}/instances?limit=100&offset=5000",
        "history, 100 of 1000000 rows": f"/v1/instance/{names[1]}/version-history",
        "history, one with 500000 rows": f"/v1/instance/{names[0]}/version-history",
        "history, one with 500000 rows, deep": f"/v1/instance/{names[0]}/version-history?offset={PAST // 4}",
        "stats over 100000 operations": "/v1/system/stats?period=24h",
    }
    for case, path in paths.items():
        await api.measure(case, [partial(api.get, path)] * rounds)


async def accept(api: Api, names: list[str], rounds: int) -> None:
    size = len(names)
    turn = iter(range(rounds))

    async def deploy() -> None:
        body = {"service": SERVICE, "version": "v2", "package_url": "https://p.example/v2.tar.gz"}
        await api.post("/v1/deployment", body | {"deploy_id": f"d-{size}-{next(turn)}", "instances": names})

    cancelled = iter(range(rounds))

    async def cancel() -> None:
        await api.post(f"/v1/deployment/d-{size}-{next(cancelled)}/cancel", {})

    await api.measure(f"accept-{size}", [deploy] * rounds, after=cancel)


@contextmanager
def running_controller(folder: Path, database: str) -> Iterator[psutil.Process]:
    """Started when the block begins, ended when it has."""
    config = folder / "controller.toml"
    config.write_text(
        f'database = "{database}"\n[api]\nport = {PORTS[0]}\ntokens = {{ bench = "{TOKEN}" }}\n'
        f'[hub]\nhost = "127.0.0.1"\nport = {PORTS[1]}\n[pki]\ndirectory = "{folder}/pki"\n'
    )
    program = [str(Path(sys.executable).parent / "releasehand-controller"), "serve", "--config", str(config)]
    with (folder / "controller.log").open("wb") as log:
        controller = subprocess.Popen(program, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield psutil.Process(controller.pid)
    finally:
        controller.terminate()
        controller.wait(30)


async def ask(controller: psutil.Process, names: list[str], rounds: int) -> list[Figure]:
    headers = {"Authorization": f"Bearer {TOKEN}"}
    async with aiohttp.ClientSession(f"http://127.0.0.1:{PORTS[0]}", headers=headers) as session:
        await until_it_answers(session)
        api = Api(session, controller)
        await ask_everything(api, names, rounds)
    return api.figures


async def until_it_answers(session: aiohttp.ClientSession) -> None:
    async with asyncio.timeout(_START_WITHIN_S):
        while True:
            try:
                async with session.get("/v1/system/health") as answer:
                    await answer.read()
                    return
            except aiohttp.ClientError:
                await SystemClock().sleep(0.05)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--database", default="")
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="releasehand-bench-") as name:
        folder = Path(name)
        database = asked.database or f"sqlite:///{folder}/controller.db"
        names = asyncio.run(fill(database, SIZES[-1]))
        with running_controller(folder, database) as controller:
            figures = asyncio.run(ask(controller, names, asked.rounds))
        print_figures(figures)


if __name__ == "__main__":
    main()
