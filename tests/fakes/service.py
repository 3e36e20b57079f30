"""A service, a check and a source of packages without processes or a network, which do as a test says."""

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path

from agent.check import Alive
from agent.download import Download
from agent.errors import ActivationError, CheckFailedError, NotAllowedError, OriginRefusedError
from agent.observation import Observation, ProcessMark
from releasehand.model.status import ServiceState
from shared.errors import AttemptError


class FakeService:
    """agent.service.ServiceManager. What runs is the release that `current` named at the last restart."""

    sees_process = True

    def __init__(self, root: Path) -> None:
        self.root = root
        self.running: str | None = None  # the release, None when stopped
        self.restarts: list[str] = []
        self.refuse: Callable[[str], bool] = lambda _: False  # whether a release cannot be started
        self.gate = asyncio.Event()  # closed: a restart hangs
        self.gate.set()
        self.entered = asyncio.Event()  # a restart has begun
        self.seen = asyncio.Event()  # closed: a look hangs
        self.seen.set()
        self.looked = asyncio.Event()
        self.went_down = False  # with the host, which is up again
        self.stays_up = False  # whatever stops it
        self.is_ours = True  # False: this host lets nobody touch it

    async def restart(self) -> ProcessMark:
        self.entered.set()
        await self.gate.wait()
        if not self.is_ours:
            raise NotAllowedError("restart the fake", "it is not ours")
        name = (self.root / "current").readlink().name
        self.restarts.append(name)
        self.running = None
        if self.refuse(name):
            raise ActivationError("start the fake", "it was told not to")
        self.running = name
        return self._mark()

    async def stop(self) -> None:
        if not self.is_ours:
            raise NotAllowedError("stop the fake", "it is not ours")
        if self.stays_up:
            raise ActivationError("stop the fake", "it does not end")
        self.running = None

    def go_down(self) -> None:
        """The host does, and comes up again."""
        self.running, self.went_down = None, True

    async def start_after_boot(self) -> bool:
        if self.went_down:
            self.went_down = False
            await self.restart()
            return True
        return False

    async def observe(self) -> Observation:
        self.looked.set()
        await self.seen.wait()
        if self.running is None:
            return Observation(ServiceState.STOPPED, None, "not started")
        return Observation(ServiceState.RUNNING, self._mark(), f"{self.running} runs")

    def _mark(self) -> ProcessMark:
        return ProcessMark(f"run {len(self.restarts)}")


class FakeCheck:
    """agent.check.HealthCheck. Good as soon as asked, unless `sick` says otherwise or `gate` is closed."""

    def __init__(self) -> None:
        self.sick: Callable[[str], bool] = lambda _: False
        self.gate = asyncio.Event()
        self.gate.set()
        self.entered = asyncio.Event()
        self.checked: list[str] = []
        self.last_answer = ""

    async def wait(self, *, expected_version: str, alive: Alive, mark: ProcessMark | None) -> None:
        self.entered.set()
        self.last_answer = f"asked for {expected_version}"
        await self.gate.wait()
        self.checked.append(expected_version)
        seen = await alive()
        if seen.mark != mark:
            raise CheckFailedError("its process was replaced")
        if self.sick(expected_version):
            raise CheckFailedError("it is sick", "503 no")


class FakeFetcher:
    """agent.steps.Fetcher: hands out files that a test put there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.packages: dict[str, bytes | AttemptError] = {}
        self.sidecars: dict[str, bytes | AttemptError] = {}  # by URL, its query left out
        self.sidecar_gate = asyncio.Event()  # closed: fetching one hangs
        self.sidecar_gate.set()
        self.sidecar_asked = asyncio.Event()
        self.fetched: list[str] = []
        self.gate = asyncio.Event()  # closed: a fetch hangs half-way
        self.gate.set()
        self.entered = asyncio.Event()

    async def fetch(
        self, url: str, *, progress: Callable[[int, int | None], None], expected_sha256: str = ""
    ) -> Download:
        self.fetched.append(url)
        found = self.packages[url]
        if isinstance(found, AttemptError):
            raise found
        progress(len(found) // 2, len(found))
        self.entered.set()
        await self.gate.wait()
        progress(len(found), len(found))
        path = self.directory / f"package-{len(self.fetched)}"
        path.write_bytes(found)
        return Download(path.open("r+b"), path, hashlib.sha256(found).hexdigest(), len(found))

    async def fetch_sidecar(self, url: str, suffix: str) -> bytes:
        self.sidecar_asked.set()
        await self.sidecar_gate.wait()
        place = url.partition("?")[0] + suffix
        found = self.sidecars.get(place, OriginRefusedError(place, "the origin answered 404"))
        if isinstance(found, AttemptError):
            raise found
        return found
