"""Hosts, a controller and the network between them, on counted time: everything of one run."""

import asyncio
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from random import Random
from typing import Final, TypeVar

from agent.uplink import OPEN_TIMEOUT_S
from controller.core.audit import Actor
from controller.core.refusals import StoreUnavailableError
from controller.store import Batch, Store
from releasehand.model import ActorKind, Phase, TaskResult
from shared.attempt import Outcome
from shared.frames import Active, AttemptEnd, Move
from tests.simulation.controller import ControllerGoneError, Faults, SimulatedController
from tests.simulation.host import Host
from tests.simulation.loop import CountedLoop, LoopClock
from tests.simulation.sqlite import inline_sqlite
from tests.simulation.wire import Connection, Socket, Weather

T = TypeVar("T")

ACTOR: Final = Actor("scheduler", ActorKind.CALLER)
HANDSHAKE_S: Final = (0.0, 1.0, 3.0, 7.0)
"""When Linux sends the first packet of a connection that nobody answers."""
_MEMORY: Final = Path("/dev/shm")


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """In memory where the machine has that: nothing of it outlives the test, so no sync needs a disk."""
    parent = _MEMORY if _MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="releasehand-", dir=parent) as folder:
        yield Path(folder)


class Fleet:
    """Made inside the loop. `hosts` says which instances each has."""

    def __init__(
        self, folder: Path, hosts: Mapping[str, Sequence[str]], *, random: Random, tally: Counter[str]
    ) -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, CountedLoop)
        self.clock = LoopClock(loop)
        self.tally, self.random, self.folder = tally, random, folder
        self.weather = {name: Weather(random, tally) for name in hosts}
        self.hosts = {
            name: Host(folder / name, name, instances, clock=self.clock, random=random, tally=tally)
            for name, instances in hosts.items()
        }
        self.faults = Faults(random, self.clock, tally)
        self.database = folder / "controller.db"
        self.controller = SimulatedController(f"sqlite:///{self.database}", self.clock, self.faults, hosts)
        self.connections: dict[str, Connection] = {}  # the newest of each host
        self._back_at: dict[str, float] = {}  # by daemon: when it is started again
        self._mended_at: dict[str, float] = {}  # by host: when its configuration is right again
        self._joined_at: dict[str, float] = {}  # by host: when the network has it back
        self.untroubled_since = self.clock.monotonic()
        """Since when the controller runs and its database answers at once."""

    # daemons

    async def start(self) -> None:
        await self.controller.start()
        for name in self.hosts:
            self.start_agent(name)
        await self.pass_time(0.5)

    async def stop_controller(self, *, gracefully: bool, down_s: float) -> None:
        await self.controller.stop(gracefully=gracefully)
        self._back_at["the controller"] = self.clock.monotonic() + down_s

    async def mind(self) -> None:
        """Start again what has been down for long enough; what a fault has brought down at once, as systemd
        does."""
        now = self.clock.monotonic()
        if self.faults.died.is_set() and "the controller" not in self._back_at:
            await self.controller.stop(gracefully=False)
            self._back_at["the controller"] = now
        self.controller.raise_what_ended_it()
        for name, host in self.hosts.items():
            host.raise_what_ended_it()
            if host.crashed:
                await self.kill_agent(name, silently=False, down_s=0)
        for name in [name for name, at in self._mended_at.items() if at <= now]:
            await self.configure_agent(name, claims=(), goes_by=name, for_s=0)
        for name in [name for name, at in self._back_at.items() if at <= now]:
            del self._back_at[name]
            if name == "the controller":
                await self.controller.start()
            else:
                self.start_agent(name)
        for name in [name for name, at in self._joined_at.items() if at <= now]:
            self.join(name)
        if self.faults.active or not self.controller.runs:
            self.untroubled_since = now

    def start_agent(self, name: str) -> None:
        host = self.hosts[name]

        async def dial() -> Socket:
            return await self._dial(host)

        host.start(dial)

    async def kill_agent(self, name: str, *, silently: bool, down_s: float) -> None:
        """`silently`: nobody tells the controller, as when the host lost its power."""
        await self.hosts[name].kill()
        self._back_at[name] = self.clock.monotonic() + down_s
        connection = self.connections.pop(name, None)
        if connection is not None and not silently:
            connection.cut()

    async def configure_agent(
        self, name: str, *, claims: tuple[str, ...], goes_by: str, for_s: float
    ) -> None:
        """Start it with another configuration, for a while."""
        host = self.hosts[name]
        await self.kill_agent(name, silently=False, down_s=0)
        host.claims, host.goes_by = claims, goes_by
        self._mended_at.pop(name, None)
        if for_s:
            self._mended_at[name] = self.clock.monotonic() + for_s

    async def hand_over(self, instance_id: str, to: str) -> None:
        """Take an instance out of its host's configuration and put it into another's; each then starts
        again."""
        old = self.owner_of(instance_id)
        for name in (old.agent_id, to):
            await self.configure_agent(name, claims=(), goes_by=name, for_s=0)
        old.instances = tuple(name for name in old.instances if name != instance_id)
        self.hosts[to].instances += (instance_id,)

    def owner_of(self, instance_id: str) -> Host:
        """The host whose configuration has it by right."""
        return next(host for host in self.hosts.values() if instance_id in host.instances)

    def cut_links_of_owner(self, instance_id: str) -> None:
        connection = self.connections.get(self.owner_of(instance_id).agent_id)
        if connection is not None:
            connection.cut()

    def change_by_hand(self, name: str, instance_id: str, pick: int) -> bool:
        return self.hosts[name].change_by_hand(instance_id, pick)

    async def _dial(self, host: Host) -> Socket:
        weather = self.weather[host.agent_id]
        await _open(weather, self.clock)
        if not self.controller.runs:
            raise ConnectionRefusedError("nobody listens")
        connection = self.connections[host.agent_id] = Connection(host.goes_by, weather)
        self.controller.accept(connection)
        return connection.agent_end

    # the network

    def part(self, name: str, *, for_s: float) -> None:
        """Nothing comes to or from the host; nobody is told."""
        self.weather[name].away = True
        self._joined_at[name] = self.clock.monotonic() + for_s

    def join(self, name: str) -> None:
        self._joined_at.pop(name, None)
        self.weather[name].clear()
        for connection in [*self.controller.connections, *self.connections.values()]:
            if connection.weather is self.weather[name]:
                connection.up.flush()
                connection.down.flush()

    # calls and looks

    async def call(self, work: Callable[[Store], Awaitable[T]]) -> T | None:
        """A scheduler's call; None if there was no answer. Raises RefusalError."""
        try:
            return await self.controller.call(work)
        except (ControllerGoneError, StoreUnavailableError):
            return None

    def query(self, statement: str, *values: object) -> list[sqlite3.Row]:
        """Look into the controller's database by a connection of our own."""
        with closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            return connection.execute(statement, values).fetchall()

    async def pass_time(self, seconds: float) -> None:
        """In steps, so that nothing stays down for long that is started again by itself."""
        until = self.clock.monotonic() + seconds
        while (left := until - self.clock.monotonic()) > 0:
            await self.clock.sleep(min(1.0, left))
            await self.mind()

    async def heal(self) -> None:
        """Everything runs, as it should, and every link works from now on."""
        self.faults.clear()
        for name, host in self.hosts.items():
            self.join(name)
            host.kill_in = 0
        for waiting in (self._back_at, self._mended_at):
            waiting.update(dict.fromkeys(waiting, 0.0))
        await self.mind()
        await self.mind()

    async def forge(self, name: str, lie: str) -> bool:
        """Have a host tell something that is not so; False if there is nothing to lie about now."""
        journal = self.hosts[name].journal
        mine = "=" if lie != "another's task" else "!="
        rows = self.query(
            f"SELECT * FROM task WHERE agent_id {mine} ? AND attempt > 0 ORDER BY id DESC LIMIT 1",  # noqa: S608
            name,
        )
        if not rows or journal is None or not self.hosts[name].runs or not self.controller.runs:
            return False
        task = rows[0]
        move = Move(
            instance_id=task["instance_id"],
            generation=max(1, task["generation"] - (lie == "an older generation")),
            task=task["id"] + 1_000_000 * (lie == "no task"),
            attempt=task["attempt"] + (lie == "a later attempt"),
            n=1,
            at=self.clock.now(),
            left=Phase.QUEUED if lie == "no such move" else Phase.CHECKING,
            outcome=Outcome.OK,
            entered=Phase.DONE,
            end=AttemptEnd(result=TaskResult.DOWNLOADED, active=Active(version="forged")),
        )
        if lie == "an older generation" and task["generation"] == 1:
            return False
        if lie == "a closed session":
            [agent] = self.query("SELECT * FROM agent WHERE agent_id = ?", name)
            said = [move.model_copy(update={"n": agent["last_n"] + 1})]
            await self.controller.submit(Batch(name, agent["session_epoch"] - 1, agent["incarnation"], said))
        else:
            await journal.tell_anything(move)
        return True

    async def stop(self) -> None:
        for name in self.hosts:
            await self.kill_agent(name, silently=False, down_s=0)
        await self.controller.stop(gracefully=False)


async def _open(weather: Weather, clock: LoopClock) -> None:
    """Wait as a TCP handshake does whose first packet is lost, then the next one, sent ever later."""
    started = clock.monotonic()
    for after_s in HANDSHAKE_S:
        await clock.sleep(started + after_s - clock.monotonic())
        if not weather.away:
            return
    await clock.sleep(started + OPEN_TIMEOUT_S - clock.monotonic())
    raise TimeoutError("nobody answered")


@contextmanager
def simulated_fleet(
    hosts: Mapping[str, Sequence[str]], *, seed: int, tally: Counter[str]
) -> Iterator[tuple[Fleet, asyncio.Runner]]:
    """A fleet that has been started, and what runs its coroutines."""
    with inline_sqlite(), scratch_folder() as folder, asyncio.Runner(loop_factory=CountedLoop) as runner:

        async def start() -> Fleet:
            fleet = Fleet(folder, hosts, random=Random(seed), tally=tally)
            await fleet.start()
            return fleet

        fleet = runner.run(start())
        try:
            yield fleet, runner
        finally:
            runner.run(fleet.stop())
