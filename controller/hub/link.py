"""One agent's link, from its welcome to its end: a shell around `shared.session`."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final, Protocol

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from controller.core.allowance import Allowance
from controller.core.enrolment import EnrolmentRefusedError
from controller.core.refusals import StoreUnavailableError
from controller.enrolment import Granted
from controller.live import Live
from controller.store import Batch
from controller.store.reports import OUT_OF_ORDER
from releasehand.model import Presence
from shared.clock import Clock
from shared.errors import ProtocolError
from shared.frames import (
    Cancel,
    Execute,
    Heartbeat,
    Hello,
    Progress,
    Refuse,
    RefusedInstance,
    Renew,
    Report,
    decode_from_agent,
    encode,
)
from shared.logs import get_log
from shared.race import race
from shared.session import QueueFullError, Session
from shared.tasks import TaskGroup

from .peer import Peer

MIN_PACE_S: Final = 0.1  # while the writer is busy, what is due stays due
SEND_DEADLINE_S: Final = 10.0  # a peer that takes no byte for so long is cut off
READ_BYTES_PER_S: Final = 4 * 1024 * 1024  # of one link for long
READ_BURST_BYTES: Final = 16 * 1024 * 1024
MAX_REFUSED: Final = 1_000  # refused instances of one agent that are watched until they are free
MIN_RENEWAL_S: Final = 4.0  # between two certificates on one link
MIN_FRAME_COST_BYTES: Final = 2_048  # the smallest frame costs as much work: 2,000 of them a second

log = get_log(__name__)


class HeartbeatStore(Protocol):
    """Where instances' states are recorded."""

    async def observe(self, agent_id: str, epoch: int, heartbeat: Heartbeat) -> bool:
        """False if it has to be told again later."""
        ...


class Renewer(Protocol):
    """Who gives agents new certificates."""

    trust_sha256: str

    async def renew(self, serial: str, agent_id: str, shown: bytes, *, address: str) -> Granted:
        """For the key of the certificate that is shown (DER), in the place of the one with `serial`. Raises
        EnrolmentRefusedError, StoreUnavailableError."""
        ...


@dataclass(frozen=True, slots=True)
class LinkDeps:
    """What every link of a hub works with."""

    store: HeartbeatStore
    enrolment: Renewer
    submit: Callable[[Batch], Awaitable[None]]
    live: Live
    clock: Clock
    heartbeat_s: float
    send_deadline_s: float = SEND_DEADLINE_S
    dropped: Counter[str] = field(default_factory=Counter)  # reports that changed nothing, by why


class LinkClosedError(Exception):
    """The link is over, and why."""


class Link:
    """A welcomed agent. `run` ends when the link does, whatever the reason."""

    def __init__(
        self,
        socket: ServerConnection,
        peer: Peer,
        hello: Hello,
        *,
        epoch: int,
        received: int,
        deps: LinkDeps,
        refused: Iterable[RefusedInstance] = (),
    ) -> None:
        self.agent_id, self.epoch = peer.agent_id, epoch
        self.peer = peer
        """The certificate that the link stands on: the agent's newest."""
        self.refused = frozenset(one.instance_id for one in islice(refused, MAX_REFUSED))
        self._incarnation = hello.incarnation
        self._socket, self._deps = socket, deps
        self._session = Session(
            now=deps.clock.monotonic(),
            heartbeat_s=deps.heartbeat_s,
            jitter=random.random,
            received=received,
            peer_incarnation=hello.incarnation,
        )
        self._outgoing = asyncio.Event()
        self._presence = Presence.ONLINE
        self._told: Heartbeat | None = None  # the newest heartbeat that is recorded
        self._over = ""
        self._allowance = Allowance(READ_BYTES_PER_S, READ_BURST_BYTES, deps.clock.monotonic())
        self._slowed = False
        self._renewable_at = 0.0

    # what the registry calls

    @property
    def serial(self) -> str:
        """Of the certificate that the link stands on."""
        return self.peer.serial

    def revoke(self) -> None:
        """End the link: its certificate does not count any more."""
        self._end("the agent's certificate was revoked")

    def send(self, frame: Execute | Cancel) -> bool:
        """Queue a frame; a full queue ends the link."""
        if self._over:
            return False
        try:
            self._session.send(frame)
        except QueueFullError as exc:
            self._end(str(exc))
            return False
        self._outgoing.set()
        return True

    def acknowledge(self, incarnation: str, upto: int) -> None:
        """Queue an acknowledgement."""
        if not self._over:
            try:
                self._session.acknowledge(incarnation, upto)
            except QueueFullError as exc:
                self._end(str(exc))
            self._outgoing.set()

    def displace(self) -> None:
        """End the link: a newer one of the same agent is here."""
        self._end("a newer link of the same agent is here")

    def renew(self) -> None:
        """End the link: what its agent may own has changed, and its next hello tells it."""
        self._end("an instance has changed hands: say hello again")

    def _end(self, reason: str) -> None:
        self._over = self._over or reason
        self._outgoing.set()

    # the shell

    async def run(self) -> str:
        """Serve the link until it is over; returns why."""
        try:
            async with TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._write())
                group.create_task(self._pace())
        except* (LinkClosedError, QueueFullError) as errors:
            self._over = self._over or str(errors.exceptions[0])
        except* ConnectionClosed as errors:
            self._over = self._over or f"connection closed: {errors.exceptions[0]}"
        except* ProtocolError as errors:
            for problem in _flat(errors):
                self._over = str(problem)
                await self._refuse(problem)
        return self._over

    async def _read(self) -> None:
        async for text in self._socket:
            now = self._deps.clock.monotonic()
            for frame in self._session.receive(decode_from_agent(text), now):
                await self._act(frame)
            self._count_dropped()
            self._deps.live.heard(self.agent_id, self._deps.clock.now())
            self._outgoing.set()
            await self._pause_after(text)
        raise LinkClosedError("the agent closed the connection")

    def _count_dropped(self) -> None:
        if self._session.dropped:
            self._deps.dropped[OUT_OF_ORDER] += self._session.dropped
            self._session.dropped = 0

    async def _pause_after(self, text: str | bytes) -> None:
        """Read no faster than one link may: its agent's kernel keeps the rest, and others get their turn."""
        now = self._deps.clock.monotonic()
        pause_s = self._allowance.charge(max(len(text), MIN_FRAME_COST_BYTES), now)
        if pause_s > 0:
            if not self._slowed:
                self._slowed = True
                log.warning("agent sends too much and is read slowly", agent_id=self.agent_id)
            await race(self._deps.clock.sleep(pause_s), self._socket.wait_closed())  # then nothing can follow

    async def _act(self, frame: object) -> None:
        match frame:
            case Report():
                self._told = None  # a report changes what the next heartbeat is compared with in the tables
                await self._deps.submit(Batch(self.agent_id, self.epoch, frame.incarnation, frame.moves))
            case Progress():
                self._deps.live.progressed(frame)
            case Heartbeat():
                await self._observe(frame)
            case Renew():
                await self._renew()
            case Hello():
                raise ProtocolError("unexpected_frame", "a second hello on one link")
            case _:
                raise ProtocolError("unexpected_frame", f"a {type(frame).__name__} from an agent")

    async def _renew(self) -> None:
        """Put the link onto a new certificate. Who asks too often is not heard, and asks again."""
        now = self._deps.clock.monotonic()
        if now < self._renewable_at:
            return
        self._renewable_at = now + MIN_RENEWAL_S
        shown = self._socket.transport.get_extra_info("ssl_object").getpeercert(binary_form=True)
        address = self._socket.remote_address[0]
        try:
            granted = await self._deps.enrolment.renew(
                self.peer.serial, self.agent_id, shown, address=address
            )
        except EnrolmentRefusedError as exc:
            raise ProtocolError(exc.code, str(exc)) from exc
        except StoreUnavailableError as exc:
            log.warning("certificate was not renewed", agent_id=self.agent_id, reason=str(exc))
            return
        given = granted.certificate
        self.peer = Peer(self.agent_id, given.serial, given.key_sha256, given.not_after)
        self._session.send(granted.frame)

    async def _observe(self, heartbeat: Heartbeat) -> None:
        """Ten thousand agents beat a thousand times a second: only what changed reaches the tables."""
        if self._told is not None and self._told.instances == heartbeat.instances:
            return
        try:
            if await self._deps.store.observe(self.agent_id, self.epoch, heartbeat):
                self._told = heartbeat
        except StoreUnavailableError as exc:
            log.warning("heartbeat was not recorded", agent_id=self.agent_id, reason=str(exc))

    async def _write(self) -> None:
        while True:
            now = self._deps.clock.monotonic()
            try:
                self._session.tick(now)
            except QueueFullError as exc:
                self._end(str(exc))
            self._judge(self._session.presence(now))
            for text in self._session.take_outgoing():
                await self._send_text(text)
            if self._over:
                raise LinkClosedError(self._over)
            await self._outgoing.wait()
            self._outgoing.clear()

    async def _pace(self) -> None:
        """Wake the writer when the session has something due, or the certificate has ended."""
        while True:
            now = self._deps.clock.monotonic()
            left_s = (self.peer.ends_at - self._deps.clock.now()).total_seconds()
            await self._deps.clock.sleep(max(MIN_PACE_S, min(left_s, self._session.next_tick_at(now) - now)))
            if self.peer.ends_at <= self._deps.clock.now():
                self._end(f"the agent's certificate ended at {self.peer.ends_at:%Y-%m-%d %H:%M:%S} UTC")
            self._outgoing.set()

    def _judge(self, presence: Presence) -> None:
        if presence is not self._presence:
            self._presence = presence
            log.info("agent presence changed", agent_id=self.agent_id, presence=presence)
            self._deps.live.judged(self.agent_id, self.epoch, presence)
        if presence is Presence.OFFLINE:
            self._end("the agent has been silent for too long")

    async def _send_text(self, text: str) -> None:
        try:
            async with asyncio.timeout(self._deps.send_deadline_s):
                await self._socket.send(text)
        except TimeoutError:
            raise LinkClosedError("the agent does not read") from None

    async def _refuse(self, problem: ProtocolError) -> None:
        """Best effort: the agent's log is better for knowing."""
        try:
            async with asyncio.timeout(1):
                await self._socket.send(encode(Refuse(code=problem.code, reason=problem.reason[:4_000])))
        except (ConnectionClosed, TimeoutError):
            return


def _flat(group: ExceptionGroup[ProtocolError]) -> list[ProtocolError]:
    return [exc for exc in group.exceptions if isinstance(exc, ProtocolError)]
