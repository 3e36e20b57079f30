"""The controller of the simulation: the real store, hub, dispatcher, recorder and sweeper, wired as
controller.app wires them, without listening sockets. It can be killed around any transaction."""

import asyncio
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from random import Random
from typing import Any, Final, TypeVar, cast

from websockets.asyncio.server import ServerConnection

from controller.bulletin import Bulletin
from controller.claimants import Claimants
from controller.core.refusals import StoreUnavailableError
from controller.departure import Departures
from controller.dispatcher import Dispatcher
from controller.enrolment import Enrolment
from controller.hub import Hub, HubSettings
from controller.hub.doors import Doors
from controller.hub.hub import HEARTBEAT_S
from controller.hub.link import LinkDeps
from controller.hub.registry import Registry
from controller.live import Live
from controller.notice import Notices
from controller.recorder import Recorder
from controller.revocation import Revocations
from controller.store import Batch, Changed, Store, open_store
from controller.sweeper import Sweeper
from shared.clock import Clock
from tests.fakes.certificates import MONTH, spare_authority
from tests.fakes.keys import KEYRING
from tests.fakes.ledger import enrol
from tests.simulation.wire import Connection

WRITES: Final = frozenset(
    {"accept_deployment", "accept_retry", "accept_instance_rollback", "accept_batch_rollback", "cancel"}
) | {
    "retire_instance",
    "move_instance",
    "move",
    "record",
    "greet",
    "observe",
    "expire",
    "write_live_state",
}

T = TypeVar("T")


async def _settled(work: Awaitable[T]) -> T | Exception:
    """The answer or the refusal, so that one that nobody waits for any more is not complained about."""
    try:
        return await work
    except Exception as exc:  # noqa: BLE001 - raised again by whoever waits
        return exc


class ControllerGoneError(Exception):
    """The controller died before it answered."""


class Faults:
    """What is going to happen to the store's calls."""

    def __init__(self, random: Random, clock: Clock, tally: Counter[str]) -> None:
        self.random, self.clock, self.tally = random, clock, tally
        self.die_in = 0  # writes until the controller dies; 0: never
        self.dies_committed = False  # whether that write is committed
        self.away_until_s = 0.0  # the database does not answer until then
        self.lose_answers = 0  # so many commits are not known to have happened
        self.slow_until_s = 0.0
        self.died = asyncio.Event()

    def clear(self) -> None:
        self.die_in = self.lose_answers = 0
        self.away_until_s = self.slow_until_s = 0.0

    @property
    def active(self) -> bool:
        """Whether the database is not what it should be."""
        return self.lose_answers > 0 or max(self.away_until_s, self.slow_until_s) > self.clock.monotonic()

    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        """Make the call, or what is left of it."""
        await self._dawdle()
        if self.clock.monotonic() < self.away_until_s:
            self.tally["database away"] += 1
            raise StoreUnavailableError("cannot use the database: it is away")
        if name not in WRITES:
            return await call()
        if self.die_in:
            self.die_in -= 1
            if not self.die_in:
                if self.dies_committed:
                    await call()
                self.tally[f"controller killed {'after' if self.dies_committed else 'before'} a commit"] += 1
                self.died.set()
                await asyncio.Event().wait()
        result = await call()
        await self._dawdle()
        if self.lose_answers:
            self.lose_answers -= 1
            self.tally["answer of a commit lost"] += 1
            raise StoreUnavailableError("cannot use the database: the answer was lost")
        return result

    async def _dawdle(self) -> None:
        if self.clock.monotonic() < self.slow_until_s:
            await self.clock.sleep(self.random.choice([0.0, 0.0, 0.05, 0.6]))


class FaultyStore:
    """controller.store.Store, with faults around its calls."""

    def __init__(self, store: Store, faults: Faults) -> None:
        self._store, self._faults = store, faults

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self._store, name)

        async def call(*args: Any, **more: Any) -> Any:
            return await self._faults.around(name, lambda: method(*args, **more))

        return call


class SimulatedController:
    """One process's life. What it leaves is the database."""

    def __init__(self, database: str, clock: Clock, faults: Faults, agents: Iterable[str]) -> None:
        """`agents` have certificates, by id."""
        self._url, self._clock, self.faults = database, clock, faults
        self._serials = dict.fromkeys(agents, "")
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()
        self._stopping = False
        self._links: asyncio.TaskGroup | None = None
        self._hub: Hub
        self._wake: Callable[[Sequence[int]], None]
        self._tell: Callable[[Changed], None]
        self._renew: Callable[[str], None]
        self._submit: Callable[[Batch], Awaitable[None]]
        self.store: Store
        self.connections: list[Connection] = []
        self._serving: set[asyncio.Task[None]] = set()

    @property
    def runs(self) -> bool:
        return self._ready.is_set() and not self.faults.died.is_set()

    def raise_what_ended_it(self) -> None:
        """It ends when it is told to, or killed, and for nothing else."""
        if self._task is not None and self._task.done():
            self._task.result()
            raise AssertionError("the controller ended by itself")

    def submit(self, batch: Batch) -> Awaitable[None]:
        """Hand reports to the recorder, past every link."""
        return self._submit(batch)

    async def start(self) -> None:
        """Return when it serves."""
        assert not self.runs
        self.faults.died.clear()
        self._task = asyncio.get_running_loop().create_task(self._run(), name="controller")
        await self._ready.wait()

    async def stop(self, *, gracefully: bool) -> None:
        """End it; its connections break."""
        if self._task is not None:
            self._stopping = gracefully
            self.faults.died.set()
            await asyncio.wait([self._task])
            self._task.result()
            self._task = None

    async def call(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """A scheduler's call. Raises what the store raises, and ControllerGoneError."""
        if not self.runs:
            raise ControllerGoneError
        loop = asyncio.get_running_loop()
        died = loop.create_task(self.faults.died.wait())
        made = loop.create_task(_settled(work(self.store)))
        await asyncio.wait([died, made], return_when=asyncio.FIRST_COMPLETED)
        died.cancel()
        if not made.done():
            made.cancel()
            raise ControllerGoneError
        answer = made.result()
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wake(self, task_ids: Sequence[int]) -> None:
        """What the API does after it has accepted or cancelled."""
        if self.runs:
            self._wake(task_ids)

    def tell(self, changed: Changed) -> None:
        """What the API does after it has retired an instance."""
        if self.runs:
            self._tell(changed)

    def renew(self, *agent_ids: str) -> None:
        """What the API does after it has moved an instance."""
        for agent_id in agent_ids if self.runs else ():
            self._renew(agent_id)

    def accept(self, connection: Connection) -> None:
        """An agent has connected."""
        assert self._links is not None
        connection.hub_end.transport.show(connection.agent_id, self._serials[connection.agent_id])
        self.connections.append(connection)
        self._serving.add(self._links.create_task(self._serve(connection)))

    async def _serve(self, connection: Connection) -> None:
        try:
            await self._hub.serve_connection(cast("ServerConnection", connection.hub_end))
            await connection.hub_end.close()  # as websockets does when its handler has returned
        finally:
            connection.lose_at_hub()
            self.connections.remove(connection)

    async def _run(self) -> None:
        inner = await open_store(self._url, self._clock, KEYRING)
        for agent_id in [agent_id for agent_id, serial in self._serials.items() if not serial]:
            self._serials[agent_id] = await enrol(inner, agent_id, spare_authority()[1].key_hash)
        store = self.store = cast("Store", FaultyStore(inner, self.faults))
        registry, live = Registry(), Live()
        notices = Notices(Bulletin())
        dispatcher = Dispatcher(store, registry, notices, self._clock, KEYRING)
        notices.wake_by(dispatcher.wake)
        notices.stop_by(dispatcher.stop)
        self._wake, self._tell, self._renew = dispatcher.wake, notices.tell, registry.renew
        recorder = Recorder(store, notices, self._clock)
        self._submit = recorder.submit
        recorder.acknowledge_by(registry.acknowledge)
        sweeper = Sweeper(store, live, notices, self._clock)
        claimants = Claimants(store, registry, self._clock)
        enrolment = Enrolment(store, spare_authority()[1], MONTH, self._clock)
        self._hub = Hub(
            HubSettings("", 0, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)),
            store=store,
            registry=registry,
            dispatcher=dispatcher,
            notices=notices,
            deps=LinkDeps(store, enrolment, recorder.submit, live, self._clock, HEARTBEAT_S),
            doors=Doors(
                enrolment,
                Departures(store, notices.tell, Revocations(store, registry, self._clock).look),
                self._clock,
            ),
            clock=self._clock,
        )
        try:
            async with asyncio.TaskGroup() as group:
                self._links = group
                work = [group.create_task(part.run()) for part in (recorder, dispatcher, sweeper, claimants)]
                self._ready.set()
                await self.faults.died.wait()
                self._ready.clear()
                self._links = None
                for connection in self.connections:
                    connection.cut()
                for task in (*work, *self._serving):
                    task.cancel()
        finally:
            self._ready.clear()
            if self._stopping:
                self._stopping = False
                self.faults.die_in = 0  # one end is enough
                await sweeper.finish()
            await inner.close()
            self._serving.clear()
