"""An agent without a host: the real wire and the real session; its work goes by a script."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from releasehand.model import FailureCode, Phase, ServiceState, TaskResult
from shared.attempt import CANCELLABLE, TERMINAL, TRANSITIONS, Outcome
from shared.clock import SystemClock
from shared.frames import (
    Ack,
    AgentFrame,
    AttemptEnd,
    Cancel,
    ControllerFrame,
    Execute,
    Heartbeat,
    Hello,
    InstancePulse,
    InstanceState,
    Move,
    Progress,
    Ref,
    Refuse,
    Welcome,
    decode_from_controller,
    encode,
)
from shared.session import Session
from tests.fakes.controller import RunningController
from tests.fakes.ledger import digest_of, live

LONG_S: Final = 3_600.0


@dataclass(frozen=True)
class Script:
    """How one attempt goes: `hold` is the phase it stays in until told to go on, `fail` the code with which
    it leaves phase `at`."""

    hold: Phase | None = None
    fail: FailureCode | None = None
    at: Phase = Phase.DOWNLOADING


@dataclass
class Attempt:
    execute: Execute
    script: Script
    phase: Phase = Phase.QUEUED


@dataclass
class FakeAgent:
    """Its journal outlives its links: what is not acknowledged is reported again on the next one.

    `scripts` are for the attempts to come, in their order; after the last one all goes well."""

    agent_id: str
    versions: dict[str, str]
    service: str = "user"
    scripts: list[Script] = field(default_factory=list)
    ignores_cancel: bool = False
    drops_commands: int = 0  # so many are lost on their way
    beats: bool = False  # heartbeats only when told to
    executed: list[Execute] = field(default_factory=list)
    activated: list[tuple[str, str]] = field(default_factory=list)
    """Operation and instance of each activation: what the host itself counts."""
    cancels: list[Ref] = field(default_factory=list)
    heard_beats: int = 0
    incarnation: str = "inc-1"

    def __post_init__(self) -> None:
        self._clock = SystemClock()
        self._attempts: dict[str, Attempt] = {}
        self._generations: dict[str, int] = {}
        self._journal: list[Move] = []
        self._forgotten = 0  # what was acknowledged is told no more, whatever a controller has lost
        self._session: Session | None = None
        self._socket: ClientConnection | None = None
        self._changed = asyncio.Condition()
        self._bell = asyncio.Event()
        self._reading = asyncio.Event()
        self._reading.set()
        self.acked = 0
        self.welcome: Welcome | None = None
        self.refusal: Refuse | None = None
        self.closed = asyncio.Event()
        self.close_reason = ""

    # ------------------------------------------------------------------------------------------- for the test

    @asynccontextmanager
    async def linked(
        self,
        controller: RunningController,
        *,
        by: str = "",
        named: str = "",
        buffer_bytes: int = 0,
    ) -> AsyncIterator["FakeAgent"]:
        """Be linked until the block ends or the link does, by the certificate of agent `by` (its own). Raises
        InvalidStatus if there is no room."""
        self.closed.clear()
        self.refusal = self.welcome = None
        async with connect(
            controller.hub,
            sock=await _connected(controller.hub, buffer_bytes),
            ssl=await controller.tls(by or self.agent_id),
            ping_interval=None,
            close_timeout=1,
            proxy=None,
            compression=None,
            max_queue=1,
        ) as socket:
            self._socket = socket
            await socket.send(encode(self.hello(named)))
            async with asyncio.TaskGroup() as group:
                work = [
                    group.create_task(self._until_closed(part, socket)) for part in (self._read, self._write)
                ]
                try:
                    await self.until(lambda: self.welcome or self.refusal or self.closed.is_set())
                    yield self
                finally:
                    for task in work:
                        task.cancel()

    def cut(self) -> None:
        """Break the link as a pulled cable would."""
        assert self._socket is not None
        self._socket.transport.abort()

    async def send(self, text: str | bytes) -> None:
        """Write something of the test's own onto the wire."""
        assert self._socket is not None
        await self._socket.send(text)

    def beat(self) -> None:
        """Send a heartbeat now."""
        assert self._session is not None
        self._session.send(self._heartbeat())
        self._bell.set()

    def stop_reading(self) -> None:
        self._reading.clear()

    def read_on(self) -> None:
        self._reading.set()

    def progress(self, instance_id: str, done: int, total: int) -> None:
        assert self._session is not None
        ref = self._attempts[instance_id].execute.ref
        self._session.send(Progress(ref=ref, bytes_done=done, bytes_total=total))
        self._bell.set()

    def go_on(self) -> None:
        """Let what is held go to its end; if the link is down, the next one reports it."""
        for attempt in list(self._attempts.values()):
            attempt.script = Script()
            self._walk(attempt)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something that this agent sees is true."""
        async with asyncio.timeout(60), self._changed:  # a controller that was killed starts again meanwhile
            await self._changed.wait_for(condition)

    async def until_in(self, phase: Phase, instance_ids: Iterable[str]) -> None:
        """Wait until attempts are in `phase` and the controller has recorded it."""
        names = list(instance_ids)
        await self.until(
            lambda: (
                all(name in self._attempts and self._attempts[name].phase is phase for name in names)
                and self.acked == len(self._journal)
            )
        )

    # ------------------------------------------------------------------------------------------- the wire

    async def _until_closed(
        self, part: Callable[[ClientConnection], Awaitable[None]], socket: ClientConnection
    ) -> None:
        try:
            await part(socket)
        except ConnectionClosed as exc:
            self.close_reason = exc.rcvd.reason if exc.rcvd else ""
            self.closed.set()
            await self._tell()

    async def _read(self, socket: ClientConnection) -> None:
        while True:
            await self._reading.wait()
            frame = decode_from_controller(await socket.recv())
            await self._take(frame)
            await self._tell()
            self._bell.set()

    async def _take(self, frame: ControllerFrame) -> None:
        match frame:
            case Welcome():
                self._begin_session(frame)
            case Refuse():
                self.refusal = frame
            case _ if self._session is not None:
                for passed in self._session.receive(frame, self._clock.monotonic()):
                    self._act(passed)
            case _:
                raise AssertionError(f"{frame} came before the welcome")

    def _begin_session(self, welcome: Welcome) -> None:
        self.welcome, self.acked = welcome, welcome.acked
        interval_s = welcome.heartbeat_interval_s if self.beats else LONG_S
        self._session = Session(
            now=self._clock.monotonic(),
            heartbeat_s=interval_s,
            jitter=lambda: 0.5,
            heartbeat=self._heartbeat,
        )
        self._report(self._journal[max(welcome.acked, self._forgotten) :])

    async def _write(self, socket: ClientConnection) -> None:
        while True:
            self._bell.clear()
            if self._session is None or self.welcome is None:
                await self._bell.wait()
                continue
            now = self._clock.monotonic()
            self._session.tick(now)
            for text in self._session.take_outgoing():
                await socket.send(text)
            try:
                async with asyncio.timeout(max(0.0, self._session.next_tick_at(now) - now)):
                    await self._bell.wait()
            except TimeoutError:
                continue

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def hello(self, named: str = "") -> Hello:
        instances = [
            InstanceState(
                instance_id=name,
                service=self.service,
                generation=self._generations.get(name, 0),
                active=live(version),
                state=ServiceState.RUNNING,
            )
            for name, version in self.versions.items()
        ]
        return Hello(
            agent_id=named or self.agent_id,
            agent_version="0.1.0",
            host=f"{self.agent_id}.example",
            boot_id="boot-1",
            incarnation=self.incarnation,
            last_n=len(self._journal),
            instances=instances,
        )

    def _heartbeat(self) -> Heartbeat:
        pulses = [
            InstancePulse(instance_id=name, active=live(version), state=ServiceState.RUNNING)
            for name, version in self.versions.items()
        ]
        return Heartbeat(instances=pulses, last_n=len(self._journal))

    # ------------------------------------------------------------------------------------------- the work

    def _act(self, frame: AgentFrame | ControllerFrame) -> None:
        match frame:
            case Ack(upto=upto):
                self.acked = self._forgotten = upto
            case Execute() | Cancel() if self.drops_commands:
                self.drops_commands -= 1
            case Execute():
                self._begin(frame)
            case Cancel(ref=ref):
                self.cancels.append(ref)
                attempt = self._attempts.get(ref.instance_id)
                if (
                    attempt
                    and attempt.execute.ref == ref
                    and attempt.phase in CANCELLABLE
                    and not self.ignores_cancel
                ):
                    self._move(attempt, Outcome.CANCELLED)
            case Heartbeat():
                self.heard_beats += 1
            case _:
                pass

    def _begin(self, execute: Execute) -> None:
        ref = execute.ref
        before = self._attempts.get(ref.instance_id)
        if before is not None and (before.execute.ref.generation, before.execute.ref.attempt) >= (
            ref.generation,
            ref.attempt,
        ):
            return  # a copy: its reports say where it stands
        self.executed.append(execute)
        self._generations[ref.instance_id] = ref.generation
        attempt = Attempt(execute, self.scripts.pop(0) if self.scripts else Script())
        self._attempts[ref.instance_id] = attempt
        self._record(attempt, None, Outcome.OK, Phase.QUEUED)
        self._walk(attempt)

    def _walk(self, attempt: Attempt) -> None:
        script = attempt.script
        while attempt.phase not in TERMINAL and attempt.phase is not script.hold:
            fails = script.fail is not None and attempt.phase is script.at
            self._move(attempt, Outcome.FAILED if fails else Outcome.OK)

    def _move(self, attempt: Attempt, outcome: Outcome) -> None:
        left = attempt.phase
        attempt.phase = TRANSITIONS[left, outcome]
        self._record(attempt, left, outcome, attempt.phase)

    def _record(self, attempt: Attempt, left: Phase | None, outcome: Outcome, entered: Phase) -> None:
        execute = attempt.execute
        name = execute.ref.instance_id
        if entered is Phase.ACTIVATING:
            self.activated.append((execute.operation_id, name))
        if entered is Phase.DONE:
            self.versions[name] = execute.version
        move = Move(
            **execute.ref.model_dump(),
            n=len(self._journal) + 1,
            at=self._clock.now(),
            left=left,
            outcome=outcome,
            entered=entered,
            end=self._end(attempt, entered) if entered in TERMINAL else None,
        )
        self._journal.append(move)
        self._report([move])

    def _end(self, attempt: Attempt, entered: Phase) -> AttemptEnd:
        version = self.versions[attempt.execute.ref.instance_id]
        done = entered is Phase.DONE
        code = None if done or entered is Phase.CANCELLED else attempt.script.fail or FailureCode.HOST_ERROR
        return AttemptEnd(
            code=code,
            message=f"the script says {code}" if code else "",
            result=TaskResult.DOWNLOADED if done else None,
            active=live(version),
            sha256=digest_of(attempt.execute.version) if done else "",
        )

    def _report(self, moves: list[Move]) -> None:
        if self._session is not None and moves:
            self._session.report(self.incarnation, moves, self._clock.monotonic())
            self._bell.set()


async def _connected(hub: str, buffer_bytes: int) -> socket.socket:
    """A connection whose kernel takes only so many bytes that nobody reads; 0 leaves it to the system."""
    address = urlsplit(hub)
    connection = socket.socket()
    connection.setblocking(False)
    if buffer_bytes:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer_bytes)
    try:
        await asyncio.get_running_loop().sock_connect(connection, (address.hostname, address.port))
    except BaseException:
        connection.close()
        raise
    return connection
