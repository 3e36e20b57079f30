"""`make demo` as somebody runs it: real processes, no terminal, and nothing left behind however it ends."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from releasehand import Client
from releasehand.model import HealthStatus

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 100
STEPS = [
    "1. Deploy v1 of web and api on 3 hosts",
    "2. Deploy v2 of both",
    "3. Deploy web v3, which does not come up",
    "4. Cancel web v4 during its slow download",
    "5. Roll web-1 back to v1",
    "6. Deploy api v3, and SIGKILL the agent of host-2 meanwhile",
    "7. Stop the package origin, roll the rest of web back to v1",
    "8. Read the version table and one history",
]

pytestmark = pytest.mark.timeout(PATIENCE_S + 20)


@dataclass
class Run:
    """A demo under way. `place` is its temporary directory: whatever belongs to it names that."""

    process: asyncio.subprocess.Process
    place: Path
    lines: list[str] = field(default_factory=list)

    async def read_until(self, beginning: str) -> str:
        """Read up to the line that begins so."""
        async with asyncio.timeout(PATIENCE_S):
            while line := await self._read_line():
                if line.startswith(beginning):
                    return line
        raise AssertionError(f"no line begins with {beginning!r}: {self.text}")

    async def end(self) -> int:
        """Read the rest; the exit code."""
        async with asyncio.timeout(PATIENCE_S):
            while await self._read_line():
                pass
            return await self.process.wait()

    @property
    def text(self) -> str:
        return "".join(self.lines)

    def processes(self) -> list[psutil.Process]:
        """Everything that runs and has to do with this demo, found without asking the demo."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.Error):
                traces = [*one.cmdline(), *one.environ().values(), one.cwd()]
                if one.pid not in (os.getpid(), self.process.pid) and str(self.place) in " ".join(traces):
                    found.append(one)
        return found

    async def _read_line(self) -> str:
        assert self.process.stdout is not None
        line = (await self.process.stdout.readline()).decode()
        self.lines.append(line)
        return line


def files_in(folder: Path) -> list[Path]:
    return list(folder.iterdir())


@asynccontextmanager
async def start_demo(place: Path, **said: str) -> AsyncIterator[Run]:
    """Run `python -m demo` with its temporary directory at `place`."""
    environment = {key: value for key, value in os.environ.items() if key != "KEEP"}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "demo"),
        cwd=ROOT,
        env=environment | {"TMPDIR": str(place)} | said,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    run = Run(process, place)
    try:
        yield run
    finally:
        if process.returncode is None:
            process.terminate()
            await run.end()


async def test_the_demo_takes_all_its_steps_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with start_demo(tmp_path) as run:
        assert await run.end() == 0, run.text
    lines = run.text.splitlines()
    assert [line for line in lines if re.match(r"\d\. ", line)] == STEPS
    assert sum(line.startswith("   ok after ") for line in lines) == len(STEPS) + 1, run.text
    assert "\x1b" not in run.text
    assert run.processes() == []
    assert files_in(tmp_path) == []


async def test_keep_leaves_everything_running_until_it_is_told_to_stop(tmp_path: Path) -> None:
    async with start_demo(tmp_path, KEEP="1") as run:
        await run.read_until("Everything runs on")
        address = (await run.read_until("  controller ")).split()[1]
        token = (await run.read_until("  token ")).split()[1]
        await run.read_until("  export ")
        async with Client(address, token) as client:
            assert (await client.get_system_health()).status is HealthStatus.HEALTHY
            assert (await client.get_service_instances("web")).total == 3
        assert len(run.processes()) >= 5 + 5  # daemons and services
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == 0, run.text
    assert run.processes() == []
    assert files_in(tmp_path) == []


async def test_a_demo_that_is_stopped_halfway_leaves_nothing_behind(tmp_path: Path) -> None:
    async with start_demo(tmp_path) as run:
        await run.read_until(STEPS[1])
        assert len(run.processes()) >= 5 + 5
        run.process.send_signal(signal.SIGTERM)
        assert await run.end() == 128 + signal.SIGTERM, run.text
    assert run.processes() == []
    assert files_in(tmp_path) == []


async def test_a_service_that_stops_answering_fails_the_demo_and_keeps_the_logs(tmp_path: Path) -> None:
    async with start_demo(tmp_path) as run:
        await run.read_until(STEPS[2])  # about web alone
        [service] = [one for one in run.processes() if one.environ().get("RELEASEHAND_INSTANCE") == "api-1"]
        service.kill()
        assert await run.end() == 1, run.text
    assert STEPS[3] not in run.text
    assert re.search(r"api-1 at http://127\.0\.0\.1:\d+/: expected an answer, found none", run.text)
    assert run.processes() == []
    [folder] = files_in(tmp_path)
    assert f"{folder}/logs/" in run.text
    logs = {path.stem for path in files_in(folder / "logs")}
    assert logs == {"controller", "origin", "host-1", "host-2", "host-3"}
