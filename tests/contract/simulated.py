"""An agent without a host: the real wire and the real session, and work that goes as a test says."""

import asyncio
import hashlib
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import NoReturn

from websockets.asyncio.client import ClientConnection, connect

from releasehand.model import FailureCode, Phase, ServiceState, TaskResult
from shared.attempt import CANCELLABLE, TERMINAL, TRANSITIONS, Outcome
from shared.clock import SystemClock
from shared.frames import (
    Ack,
    Active,
    AttemptEnd,
    Cancel,
    Execute,
    Heartbeat,
    Hello,
    HostLoad,
    InstancePulse,
    InstanceState,
    Kept,
    Move,
    Ref,
    Refuse,
    Welcome,
    decode_from_controller,
    encode,
)
from shared.session import Session


@dataclass(frozen=True, slots=True)
class Course:
    """How attempts at a version go: `hold` is where they stay until told to go on; `fail` in phase `at`."""

    hold: Phase | None = None
    fail: FailureCode | None = None
    at: Phase = Phase.DOWNLOADING
    reverts: bool = True


@dataclass(slots=True)
class Copy:
    """One instance on the host."""

    service: str
    active: str = ""
    kept: list[str] = field(default_factory=list)
    state: ServiceState = ServiceState.RUNNING
    generation: int = 0
    port: int = 8080


@dataclass(slots=True)
class Attempt:
    execute: Execute
    phase: Phase | None = None
    held: bool = False


def digest(service: str, version: str) -> str:
    return hashlib.sha256(f"{service} {version}".encode()).hexdigest()


def release(service: str, version: str) -> Active:
    if not version:
        return Active()
    sha256 = digest(service, version)
    return Active(release=f"{version}-{sha256[:12]}", version=version, sha256=sha256)


class RefusedError(Exception):
    """The controller takes no link; the text is its code."""


class SimulatedAgent:
    """Links up inside `linked`; `courses` says by version how attempts go, any other one goes well."""

    def __init__(self, agent_id: str, copies: Mapping[str, Copy]) -> None:
        self.agent_id, self.copies = agent_id, dict(copies)
        self.courses: dict[str, Course] = {}
        self.executed: list[Execute] = []
        self._attempts: dict[Ref, Attempt] = {}
        self._moves: list[Move] = []
        self._acked = 0
        self._changed = asyncio.Condition()
        self._wake = asyncio.Event()
        self._clock = SystemClock()
        self._session: Session | None = None

    @asynccontextmanager
    async def linked(self, hub: str, tls: ssl.SSLContext) -> AsyncIterator[None]:
        """Be connected until the block ends. What was not acknowledged is reported by the next link."""
        async with connect(hub, ssl=tls, ping_interval=None, proxy=None, close_timeout=2) as socket:
            await socket.send(encode(self._hello()))
            welcome = decode_from_controller(await socket.recv())
            if isinstance(welcome, Refuse):
                raise RefusedError(welcome.code)
            assert isinstance(welcome, Welcome), welcome
            self._acked = welcome.acked
            self._session = Session(
                now=self._clock.monotonic(),
                heartbeat_s=welcome.heartbeat_interval_s,
                jitter=lambda: 0.5,
                heartbeat=self._heartbeat,
            )
            self._report(self._moves[welcome.acked :])
            async with asyncio.TaskGroup() as group:
                work = [group.create_task(self._read(socket)), group.create_task(self._write(socket))]
                yield
                for task in work:
                    task.cancel()

    async def wait_until_held(self, version: str, instance_id: str) -> None:
        """Return when the controller has recorded that the attempt stands where its course holds it."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._acked == len(self._moves)
                    and any(
                        one.held
                        and (one.execute.version, one.execute.ref.instance_id) == (version, instance_id)
                        for one in self._attempts.values()
                    )
                )
            )

    async def wait_until_failed(self, version: str) -> None:
        """Return when the controller has recorded that an attempt at `version` failed."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: (
                    self._acked == len(self._moves)
                    and any(
                        one.phase is Phase.FAILED and one.execute.version == version
                        for one in self._attempts.values()
                    )
                )
            )

    def go_on(self, version: str) -> None:
        """Let what is held go to its end."""
        self.courses.pop(version, None)
        for attempt in self._attempts.values():
            if attempt.execute.version == version and attempt.held:
                attempt.held = False
                self._walk(attempt)

    async def tell_state(self) -> None:
        """Send a heartbeat now; return when the controller has read it."""
        assert self._session is not None
        self._session.send(self._heartbeat())
        self._wake.set()

    # ---------------------------------------------------------------------------------------------- the wire

    async def _read(self, socket: ClientConnection) -> NoReturn:
        assert self._session is not None
        while True:
            frame = decode_from_controller(await socket.recv())
            for passed in self._session.receive(frame, self._clock.monotonic()):
                match passed:
                    case Execute():
                        self._begin(passed)
                    case Cancel(ref=ref):
                        self._cancel(ref)
                    case Ack(upto=upto):
                        async with self._changed:
                            self._acked = upto
                            self._changed.notify_all()
                    case _:
                        pass
            self._wake.set()

    async def _write(self, socket: ClientConnection) -> NoReturn:
        assert self._session is not None
        while True:
            now = self._clock.monotonic()
            self._session.tick(now)
            for text in self._session.take_outgoing():
                await socket.send(text)
            try:
                async with asyncio.timeout(max(0.0, self._session.next_tick_at(now) - now)):
                    await self._wake.wait()
            except TimeoutError:
                pass
            self._wake.clear()

    def _hello(self) -> Hello:
        return Hello(
            agent_id=self.agent_id,
            agent_version="0.1.0",
            host=f"{self.agent_id}.example.com",
            boot_id="boot-1",
            incarnation=f"{self.agent_id}-journal",
            last_n=len(self._moves),
            instances=[self._state(name) for name in self.copies],
        )

    def _state(self, name: str) -> InstanceState:
        copy = self.copies[name]
        return InstanceState(
            instance_id=name,
            service=copy.service,
            port=copy.port,
            generation=copy.generation,
            active=release(copy.service, copy.active),
            releases=self._kept(copy),
            state=copy.state,
            activate_timeout_s=1,
            revert_timeout_s=1,
            metadata={"rack": "r1"},
        )

    def _kept(self, copy: Copy) -> list[Kept]:
        return [Kept(**release(copy.service, version).model_dump(), good=True) for version in copy.kept]

    def _heartbeat(self) -> Heartbeat:
        pulses = [
            InstancePulse(instance_id=name, active=release(copy.service, copy.active), state=copy.state)
            for name, copy in self.copies.items()
        ]
        return Heartbeat(host=HostLoad(cpu_percent=3.5), instances=pulses, last_n=len(self._moves))

    # ---------------------------------------------------------------------------------------------- the work

    def _begin(self, execute: Execute) -> None:
        if execute.ref in self._attempts:
            return  # a copy: its reports say where it stands
        self.executed.append(execute)
        self.copies[execute.ref.instance_id].generation = execute.ref.generation
        attempt = self._attempts[execute.ref] = Attempt(execute)
        self._move(attempt, None, Outcome.OK, Phase.QUEUED)
        self._walk(attempt)

    def _walk(self, attempt: Attempt) -> None:
        """To the end, or to where the course holds."""
        execute = attempt.execute
        copy = self.copies[execute.ref.instance_id]
        course = self.courses.get(execute.version, Course())
        while attempt.phase is not None and attempt.phase not in TERMINAL:
            phase, outcome = attempt.phase, Outcome.OK
            if phase is course.hold:
                attempt.held = True
                return
            if phase is Phase.QUEUED and execute.version == copy.active and not execute.force:
                outcome = Outcome.ALREADY
            elif phase is Phase.QUEUED and execute.version in copy.kept:
                outcome = Outcome.KEPT
            elif phase is Phase.QUEUED and not execute.url:
                self._fail(attempt, FailureCode.NO_SOURCE)
                return
            elif course.fail is not None and phase is course.at:
                self._fail(attempt, course.fail, reverts=course.reverts)
                return
            self._move(attempt, phase, outcome, TRANSITIONS[phase, outcome])

    def _fail(self, attempt: Attempt, code: FailureCode, *, reverts: bool = True) -> None:
        phase = attempt.phase
        assert phase is not None
        entered = TRANSITIONS[phase, Outcome.FAILED]
        self._move(attempt, phase, Outcome.FAILED, entered, code)
        if entered is Phase.REVERTING:
            outcome = Outcome.OK if reverts else Outcome.FAILED
            self._move(attempt, entered, outcome, TRANSITIONS[entered, outcome], code)

    def _cancel(self, ref: Ref) -> None:
        attempt = self._attempts.get(ref)
        if attempt is not None and attempt.phase in CANCELLABLE:
            attempt.held = False
            self._move(attempt, attempt.phase, Outcome.CANCELLED, Phase.CANCELLED)

    def _move(
        self,
        attempt: Attempt,
        left: Phase | None,
        outcome: Outcome,
        entered: Phase,
        code: FailureCode | None = None,
    ) -> None:
        execute = attempt.execute
        copy = self.copies[execute.ref.instance_id]
        end = None
        if entered in TERMINAL:
            result = None
            if entered is Phase.DONE:
                kept = execute.version in copy.kept
                result = TaskResult.KEPT if kept else TaskResult.DOWNLOADED
                if outcome is Outcome.ALREADY:
                    result = TaskResult.ALREADY_ACTIVE
                copy.active = execute.version
                copy.kept = [*dict.fromkeys([*copy.kept, execute.version])]
            end = AttemptEnd(
                code=code,
                message=f"told to fail with {code}" if code else "",
                result=result,
                active=release(copy.service, copy.active),
                releases=self._kept(copy),
                sha256=digest(copy.service, execute.version),
                state=copy.state,
                broken=entered is Phase.BROKEN,
            )
        move = Move(
            **execute.ref.model_dump(),
            n=len(self._moves) + 1,
            at=self._clock.now(),
            left=left,
            outcome=outcome,
            entered=entered,
            end=end,
        )
        attempt.phase = entered
        self._moves.append(move)
        self._report([move])

    def _report(self, moves: list[Move]) -> None:
        if self._session is not None and moves:
            self._session.report(f"{self.agent_id}-journal", moves, self._clock.monotonic())
            self._wake.set()
