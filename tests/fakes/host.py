"""A host in a temporary directory: real roots, a real journal and the real engine; service and network
are fakes.

`Host.boot` makes the engine anew from what is on the disk, as a new process would."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from agent.check import HealthCheck
from agent.config import CommandDriver, InstanceSection, NoDriver
from agent.download import Downloader
from agent.executor import Executor
from agent.instance import Instance
from agent.journal import Journal
from agent.runner import Tools
from agent.service import FileOutput, ServiceManager, UnwatchedService
from agent.switch import InstallRoot
from agent.verify import VerificationPolicy
from releasehand.model.status import OperationKind, Phase
from shared.attempt import TERMINAL, TRANSITIONS
from shared.frames import Execute, Move, Ref
from tests.fakes.archives import file, tgz
from tests.fakes.clock import FakeClock
from tests.fakes.service import FakeCheck, FakeFetcher, FakeService

INSTANCE = "web-1"
SERVICE = "web"


class Killed(BaseException):
    """What a test's checkpoint raises: nothing in the agent catches it, as nothing catches SIGKILL."""


def package_of(version: str) -> bytes:
    return tgz(file("VERSION", version.encode()))


def digest_of(version: str) -> str:
    return hashlib.sha256(package_of(version)).hexdigest()


def url_of(version: str) -> str:
    return f"https://packages.example.com/{version}.tar.gz?signature=secret"


def ref_of(generation: int, attempt: int = 1, *, instance_id: str = INSTANCE) -> Ref:
    return Ref(instance_id=instance_id, generation=generation, task=generation, attempt=attempt)


def deploy(
    version: str, generation: int, *, attempt: int = 1, seconds_left: float = 300, sha256: str = ""
) -> Execute:
    return Execute(
        ref=ref_of(generation, attempt),
        kind=OperationKind.DEPLOYMENT,
        operation_id=f"deploy-{generation}",
        service=SERVICE,
        version=version,
        url=url_of(version),
        sha256=sha256,
        seconds_left=seconds_left,
    )


def rollback(
    version: str, generation: int, *, attempt: int = 1, url: str = "", force: bool = False
) -> Execute:
    return Execute(
        ref=ref_of(generation, attempt),
        kind=OperationKind.ROLLBACK,
        operation_id=f"rollback-{generation}",
        service=SERVICE,
        version=version,
        url=url,
        seconds_left=300,
        force=force,
    )


class Host:
    """Lives as long as the test; `boot` may be called again and again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.root = directory / "srv"
        self.clock = FakeClock()
        self.boot_id = "boot-1"
        self.service = FakeService(self.root)
        self.check = FakeCheck()
        self.fetcher = FakeFetcher(directory)
        self.checkpoint: Callable[[str], None] = lambda _: None
        self.make_root: Callable[[Path], InstallRoot] = InstallRoot
        self.real_fetcher: Downloader | None = None  # in the fake one's place, as the next two
        self.real_service: ServiceManager | None = None
        self.real_check: HealthCheck | None = None
        self.urls: dict[str, str] = {}  # of packages that a real origin has
        self.section: dict[str, Any] = {}  # of agent.toml, beside what every host has
        self.news = asyncio.Event()
        self.verification = VerificationPolicy(directory / "trusted.d", directory / "revoked.d")
        self.executor: Executor
        self.journal: Journal
        for version in ("v1", "v2", "v3"):
            self.fetcher.packages[url_of(version)] = package_of(version)

    @asynccontextmanager
    async def boot(self) -> AsyncIterator["Host"]:
        """An agent on this host, until the block ends; what its checkpoint raises comes out of the block."""
        self.journal = await Journal.open(self.directory / "agent.db", report=self.news.set)
        ordinary: dict[str, Any] = {
            "id": INSTANCE,
            "service": SERVICE,
            "port": 8080,
            "root": self.root,
            "driver": CommandDriver(type="command", start=("true",)),
        }
        section = InstanceSection(**(ordinary | self.section))
        root = self.make_root(self.root)
        service = UnwatchedService() if isinstance(section.driver, NoDriver) else self.real_service
        check = self.real_check or self.check
        instance = Instance(
            section,
            root,
            service or self.service,
            check,
            self.journal,
            self.verification,
            output=FileOutput(self.root / "service.log"),
        )
        tools = Tools(
            fetcher=self.real_fetcher or self.fetcher,
            clock=self.clock,
            boot_id=self.boot_id,
            checkpoint=self._pass_checkpoint,
        )
        self.executor = Executor([instance], tools)
        try:
            await self.executor.recover()
            async with asyncio.TaskGroup() as group:
                work = group.create_task(self.executor.run())
                yield self
                work.cancel()
        finally:
            await self.journal.close()

    def _pass_checkpoint(self, name: str) -> None:
        self.checkpoint(name)  # looked up late: tests set it while the agent runs

    async def moves(self) -> list[Move]:
        """All reports so far: nothing acknowledges any."""
        return await self.journal.pending(after=0, limit=10_000)

    async def wait_for_end(self, ref: Ref) -> Move:
        """The report of the attempt's end, once there is one."""
        while True:
            self.news.clear()
            for move in await self.moves():
                if move.end is not None and (move.generation, move.attempt) == (ref.generation, ref.attempt):
                    return move
            await self.news.wait()

    async def carry_out(self, command: Execute) -> Move:
        """Have the command run to its end."""
        await self.executor.execute(command)
        return await self.wait_for_end(command.ref)

    @property
    def current(self) -> str:
        """The release that `current` names, "" for none."""
        link = self.root / "current"
        return link.readlink().name if link.is_symlink() else ""

    @property
    def live_version(self) -> str:
        """What is in the active release, "" for none."""
        return (self.root / "current" / "VERSION").read_text() if self.current else ""

    def left_over(self) -> list[str]:
        """What is on the disk beside complete releases: nothing, when no attempt is at work."""
        packages = [path.name for path in self.directory.glob("package-*")]
        return packages + [path.name for path in (self.root / ".staging").iterdir()]


def assert_lawful(moves: Sequence[Move]) -> None:
    """Every reported move is in the table, follows the one before it, and the numbers have no gap."""
    assert [move.n for move in moves] == list(range(1, len(moves) + 1))
    at: dict[tuple[int, int], Phase] = {}
    for move in moves:
        key = (move.generation, move.attempt)
        if move.left is None:
            assert key not in at
            assert move.entered is Phase.QUEUED
        else:
            assert at.get(key, Phase.QUEUED) is move.left  # one refused at once was never reported queued
            assert TRANSITIONS[move.left, move.outcome] is move.entered
        at[key] = move.entered
        assert (move.end is not None) == (move.entered in TERMINAL)
