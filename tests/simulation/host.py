"""A host of the simulation: the real agent over a real journal and real roots. Only its network, its service,
the origin of its packages and the child process that unpacks are simulated.

How a release does is in its version: `v7-good`, `v8-sick`."""

import asyncio
import hashlib
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, NoReturn, cast
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection

from agent.check import Alive
from agent.config import CommandDriver, InstanceSection
from agent.core.record import AttemptRecord
from agent.download import Download
from agent.errors import OriginRefusedError
from agent.executor import Executor
from agent.finish import finish
from agent.identity import Membership
from agent.instance import Instance
from agent.journal import Change, Journal
from agent.observation import ProcessMark
from agent.pulse import Pulse
from agent.runner import Runner, Tools
from agent.steps import Steps
from agent.switch import InstallRoot, ReleaseMeta
from agent.uplink import HostFacts, Uplink
from agent.verify import VerificationPolicy
from releasehand.model import FailureCode, Phase
from shared.attempt import TERMINAL, Outcome
from shared.clock import Clock
from shared.errors import AttemptError
from shared.frames import Heartbeat, HostLoad, Move, Ref
from tests.fakes.service import FakeCheck, FakeService
from tests.simulation.wire import Socket

SERVICE: Final = "web"
BOUND_S: Final = 20.0  # of an activation, and of a revert
KINDS: Final = ("good", "sick", "unstartable", "stuck", "refused", "flaky", "slow", "hung")
MAX_DOWN_S: Final = 60.0


def digest_of(version: str) -> str:
    return hashlib.sha256(version.encode()).hexdigest()


def url_of(version: str) -> str:
    return f"https://packages.example.com/{version}"


def kind_of(text: str) -> str:
    """How the release of that version, or with that directory's name, does."""
    return next((kind for kind in KINDS if f"-{kind}" in text), "good")


class Killed(BaseException):
    """Nothing in the agent catches it, as nothing catches SIGKILL."""


class FetchFailedError(AttemptError):
    """The origin of a flaky package."""

    code = FailureCode.DOWNLOAD_FAILED


@dataclass(frozen=True)
class Activation:
    """A service was taken to the target of an attempt."""

    ref: Ref
    boot: int  # which start of the agent did it


@dataclass
class Ledger:
    """What really happened on one host; it outlives agents and journals."""

    activations: dict[str, list[Activation]] = field(default_factory=dict)
    ends: dict[tuple[int, int], Phase] = field(default_factory=dict)  # by task and attempt

    def activated(self, ref: Ref, boot: int) -> None:
        self.activations.setdefault(ref.instance_id, []).append(Activation(ref, boot))


class SimulatedFetcher:
    """agent.steps.Fetcher: takes its time, and fails as the version says."""

    def __init__(self, folder: Path, clock: Clock, random: Random) -> None:
        self._folder, self._clock, self._random = folder, clock, random
        self._count = 0

    async def fetch(
        self, url: str, *, progress: Callable[[int, int | None], None], expected_sha256: str = ""
    ) -> Download:
        version = urlsplit(url).path[1:]
        kind = kind_of(version)
        progress(1, len(version))
        await self._clock.sleep({"slow": 15.0, "hung": 1e6}.get(kind, self._random.choice([0.0, 0.2, 1.5])))
        if kind == "refused":
            raise OriginRefusedError(url, "the origin answered 404")
        if kind == "flaky" and self._random.random() < 0.6:
            raise FetchFailedError("the origin is flaky")
        self._count += 1
        path = self._folder / f"package-{self._count}"
        path.write_bytes(version.encode())
        return Download(path.open("r+b"), path, digest_of(version), len(version))

    async def fetch_sidecar(self, url: str, suffix: str) -> bytes:
        raise OriginRefusedError(url + suffix, "the origin answered 404")


class SimulatedCheck(FakeCheck):
    """Takes its time."""

    def __init__(self, clock: Clock, random: Random) -> None:
        super().__init__()
        self._clock, self._random = clock, random
        self.sick = lambda version: kind_of(version) in {"sick", "stuck"}

    async def wait(self, *, expected_version: str, alive: Alive, mark: ProcessMark | None) -> None:
        await self._clock.sleep(self._random.choice([0.0, 0.0, 0.3, 2.0]))
        self.checked.clear()
        await super().wait(expected_version=expected_version, alive=alive, mark=mark)


class SimulatedService(FakeService):
    """After a `stuck` release the next start fails as well: the revert cannot succeed."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._stuck = False
        self.refuse = self._refuses

    def _refuses(self, name: str) -> bool:
        was_stuck, self._stuck = self._stuck, kind_of(name) == "stuck"
        return was_stuck or kind_of(name) == "unstartable"


class SimulatedSteps(Steps):
    """The real steps, with a package that needs no child process to be unpacked."""

    async def _unpack(self, record: AttemptRecord) -> tuple[Outcome, AttemptRecord]:
        root, version = self._instance.root, record.command.version
        package = await self._obtain(record)
        name = root.release_name(version, package.sha256)
        staging = root.make_staging()
        (staging.path / "VERSION").write_text(version)
        root.describe(staging, ReleaseMeta(name, version, package.sha256, package.size_bytes))
        await finish(asyncio.to_thread(root.publish, staging, name))
        self._checkpoint("committed")
        return Outcome.OK, record.model_copy(update={"target": name})


class SimulatedRunner(Runner):
    """Keeps the ledger."""

    def __init__(self, instance: Instance, tools: Tools, ledger: Ledger, boot: int) -> None:
        super().__init__(instance, tools)
        self._ledger, self._boot = ledger, boot

    def _new_steps(self, record: AttemptRecord) -> Steps:
        def pass_checkpoint(name: str) -> None:
            at_work = self.backlog.working
            if name == "restarted" and at_work is not None and at_work.phase is Phase.ACTIVATING:
                self._ledger.activated(record.ref, self._boot)
            self._tools.checkpoint(name)

        return SimulatedSteps(
            self.instance,
            self._tools.fetcher,
            limits=self._tools.limits,
            progress=lambda done, total: None,
            checkpoint=pass_checkpoint,
        )


class SimulatedExecutor(Executor):
    """Of runners that keep the ledger."""

    def __init__(self, instances: Iterable[Instance], tools: Tools, ledger: Ledger, boot: int) -> None:
        super().__init__((), tools)
        runners: list[Runner] = [SimulatedRunner(instance, tools, ledger, boot) for instance in instances]
        self._runners = {runner.instance.id: runner for runner in runners}


class SimulatedPulse(Pulse):
    """Does not ask this machine how loaded it is."""

    async def look(self) -> None:
        position = self._position()
        instances = await self._instances.pulses()
        if position == self._position():
            self._newest = Heartbeat(host=HostLoad(), instances=instances, last_n=position)


class SimulatedUplink(Uplink):
    """Connects over the simulated network."""

    dial: Callable[[], Awaitable[Socket]]

    async def _hold_link(self) -> NoReturn:
        socket = await self.dial()
        try:
            await self._keep(cast("ClientConnection", socket), self._read_membership())
        finally:
            await socket.close(1001, "the agent is stopping")


class SimulatedJournal(Journal):
    """Keeps the ledger of ends, and can be made to lie."""

    ledger: Ledger

    @classmethod
    async def open_with(cls, path: Path, ledger: Ledger, report: Callable[[], None]) -> "SimulatedJournal":
        journal = cls(path, report=report)
        journal.ledger = ledger
        await journal._run(journal._open)
        return journal

    def _write(self, change: Change) -> None:
        super()._write(change)
        record = change.record
        if record.phase in TERMINAL:
            self.ledger.ends[record.ref.task, record.ref.attempt] = record.phase

    async def tell_anything(self, move: Move) -> None:
        """Report a move that no attempt of this host has made."""

        def put() -> None:
            with self._transaction(durable=True):
                self._put("forged", move)

        await self._run(put)
        self._report()


class Host:
    """Lives as long as the simulation; `start` and `stop` its agent as often as you like."""

    def __init__(
        self,
        folder: Path,
        agent_id: str,
        instances: Iterable[str],
        *,
        clock: Clock,
        random: Random,
        tally: Counter[str],
    ) -> None:
        self.folder, self.agent_id, self.instances = folder, agent_id, tuple(instances)
        self.claims: tuple[str, ...] = ()  # instances of others that its configuration names
        self.goes_by = agent_id  # the id that its configuration names
        self.ledger = Ledger()
        self.boots = 0
        self.kill_in = 0  # checkpoints until the agent is killed; 0: never
        self.journal: SimulatedJournal | None = None
        self.executor: Executor | None = None
        self._clock, self._random, self._tally = clock, random, tally
        self._services: dict[str, SimulatedService] = {}
        self._task: asyncio.Task[None] | None = None
        self.crashed = False  # it was killed at a checkpoint, and nobody has started it since
        folder.mkdir()

    @property
    def runs(self) -> bool:
        return self._task is not None and not self._task.done()

    def root_of(self, instance_id: str) -> InstallRoot:
        return InstallRoot(self.folder / instance_id)

    def active_on_disk(self, instance_id: str) -> str:
        """The version that `current` names, "" for none."""
        root = self.root_of(instance_id)
        name = root.current() if root.path.exists() else None
        return next((one.version for one in root.releases() if one.name == name), "") if name else ""

    def change_by_hand(self, instance_id: str, pick: int) -> bool:
        """Point `current` at another release that is kept, if there is one, and restart the service."""
        root = self.root_of(instance_id)
        names = [one.name for one in root.releases()] if root.path.exists() else []
        if not names:
            return False
        name = names[pick % len(names)]
        root.point_current(name)
        service = self._services[instance_id]
        service.running = name
        service.restarts.append(name)
        return True

    def start(self, dial: Callable[[], Awaitable[Socket]]) -> None:
        assert not self.runs
        self.boots += 1
        self.crashed = False
        self._task = asyncio.get_running_loop().create_task(self._run(dial), name=f"agent {self.agent_id}")

    async def kill(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    def raise_what_ended_it(self) -> None:
        """An agent ends when it is told to, or killed, and for nothing else."""
        if self._task is not None and self._task.done() and not self.crashed:
            self._task.result()
            raise AssertionError(f"agent {self.agent_id} ended by itself")

    def lose_journal(self) -> None:
        """While the agent is down."""
        assert not self.runs
        for path in self.folder.glob("agent.db*"):
            path.unlink()

    async def _run(self, dial: Callable[[], Awaitable[Socket]]) -> None:
        news = asyncio.Event()
        journal = self.journal = await SimulatedJournal.open_with(
            self.folder / "agent.db", self.ledger, news.set
        )
        try:
            tools = Tools(
                fetcher=SimulatedFetcher(self.folder, self._clock, self._random),
                clock=self._clock,
                boot_id="boot-1",
                checkpoint=self._pass_checkpoint,
            )
            instances = [self._make_instance(name, journal) for name in (*self.instances, *self.claims)]
            executor = self.executor = SimulatedExecutor(instances, tools, self.ledger, self.boots)
            await executor.recover()
            pulse = SimulatedPulse(
                executor, disk=self.folder, position=lambda: journal.last_n, clock=self._clock
            )
            await pulse.look()
            uplink = SimulatedUplink(
                self._read_membership,
                HostFacts("0.1.0", f"{self.agent_id}.example.com", "boot-1", {}),
                executor=executor,
                journal=journal,
                pulse=pulse,
                clock=self._clock,
                news=news,
                jitter=self._random.random,
            )
            uplink.dial = dial
            async with asyncio.TaskGroup() as group:
                for part in (executor, pulse, uplink):
                    group.create_task(part.run())
        except* Killed:
            self._tally["agent killed at a checkpoint"] += 1
            self.crashed = True
        finally:
            self.executor = None
            await journal.close()

    def _read_membership(self) -> Membership:
        now = self._clock.now()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        return Membership(self.goes_by, "wss://hub.example", now, now, "", tls)

    def _pass_checkpoint(self, _: str) -> None:
        if self.kill_in:
            self.kill_in -= 1
            if not self.kill_in:
                raise Killed

    def _make_instance(self, name: str, journal: Journal) -> Instance:
        root = self.folder / name
        section = InstanceSection(
            id=name,
            service=SERVICE,
            port=8080,
            root=root,
            driver=CommandDriver(type="command", start=("true",)),
            activate_timeout_s=BOUND_S,
            revert_timeout_s=BOUND_S,
        )
        service = self._services.setdefault(name, SimulatedService(root))
        check = SimulatedCheck(self._clock, self._random)
        policy = VerificationPolicy(self.folder / "trusted.d", self.folder / "revoked.d")
        return Instance(section, InstallRoot(root), service, check, journal, policy)
