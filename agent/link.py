"""One live link to the controller, from `welcome` to its end: the session's I/O and nothing that
outlives it."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn

from websockets.asyncio.client import ClientConnection

from agent.executor import Executor
from agent.finish import finish
from agent.journal import Journal, JournalError
from agent.pulse import Pulse
from agent.renewal import Renewal
from releasehand.model.status import Presence
from shared.clock import Clock
from shared.errors import ReleasehandError
from shared.frames import (
    Ack,
    Cancel,
    Execute,
    Progress,
    Ref,
    Refuse,
    Renew,
    Renewed,
    Welcome,
    decode_from_controller,
)
from shared.logs import get_log
from shared.race import race
from shared.session import OFFLINE_AFTER_S, Session
from shared.tasks import TaskGroup

WRITE_TIMEOUT_S: Final = 10.0
PROGRESS_EVERY_S: Final = 1.0
REPORTS_IN_FLIGHT: Final = 500  # the rest stays in the journal until some are acknowledged
JOURNAL_RETRY_S: Final = 1.0
MIN_HEARTBEAT_S: Final = 1.0  # whatever a controller asks for: a tiny interval would be a busy loop

log = get_log(__name__)


class LinkLostError(ReleasehandError):
    """The link is of no use any more; the text says why. The agent goes on working and connects again."""


class LinkRefusedError(LinkLostError):
    """The controller says why it ends the link, or begins none. `code` is one of its own."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(f"the controller refused this agent: {reason} ({code})")


class Link:
    """Made for one connection; `run` works until that ends."""

    def __init__(
        self,
        socket: ClientConnection,
        welcome: Welcome,
        *,
        executor: Executor,
        journal: Journal,
        pulse: Pulse,
        clock: Clock,
        jitter: Callable[[], float],
        news: asyncio.Event,
        renewal: Renewal | None = None,
    ) -> None:
        """`news` is set whenever the journal has something new to report. Without `renewal` the certificate
        is kept to its end."""
        self._socket, self._executor, self._journal, self._clock = socket, executor, journal, clock
        self._welcome, self._news, self._renewal = welcome, news, renewal
        self._fed = self._acked = welcome.acked
        self._wake = asyncio.Event()
        self._session = Session(
            now=clock.monotonic(),
            heartbeat_s=max(MIN_HEARTBEAT_S, welcome.heartbeat_interval_s),
            jitter=jitter,
            heartbeat=pulse.heartbeat,
        )

    @property
    def heard_at(self) -> float:
        """When the controller last said something, on the monotonic clock."""
        return self._session.heard_at

    async def run(self) -> NoReturn:
        """Raises LinkLostError, QueueFullError, ProtocolError, OSError or a WebSocketException when the
        link ends."""
        await finish(self._executor.reconcile(self._welcome.wanted, self._welcome.refused))
        await self._journal.acknowledge(self._welcome.acked)
        try:
            async with TaskGroup() as group:
                group.create_task(self._read())
                group.create_task(self._write())
                group.create_task(self._report())
                group.create_task(self._show_progress())
                if self._renewal is not None:
                    group.create_task(self._renewal.run(self._ask_for_certificate))
        except ExceptionGroup as exc:
            raise exc.exceptions[0] from None  # the first; the others ended because of it
        raise AssertionError("unreachable: its tasks never return")

    async def _read(self) -> NoReturn:
        while True:
            frame = decode_from_controller(await self._socket.recv())
            for passed in self._session.receive(frame, self._clock.monotonic()):
                try:
                    await self._act_on(passed)
                except JournalError as exc:  # the controller sends again what it hears nothing of
                    log.warning("frame could not be acted on", type=passed.type, reason=str(exc))
            self._wake.set()

    async def _act_on(self, frame: object) -> None:
        match frame:
            case Execute():
                # To its end even if the link is lost now: half a decision must not stay behind.
                await finish(self._executor.execute(frame))
            case Cancel(ref=ref):
                await finish(self._executor.cancel(ref))
            case Ack(incarnation=incarnation, upto=upto):
                if incarnation == self._journal.incarnation:
                    await self._journal.acknowledge(upto)
                    self._acked = max(self._acked, upto)
                    self._news.set()
            case Renewed() if self._renewal is not None:
                await finish(self._renewal.take(frame))
            case Refuse(code=code, reason=reason):
                raise LinkRefusedError(code, reason)
            case _:
                pass

    def _ask_for_certificate(self) -> None:
        self._session.send(Renew())
        self._wake.set()

    async def _write(self) -> NoReturn:
        while True:
            self._wake.clear()
            now = self._clock.monotonic()
            if self._session.presence(now) is Presence.OFFLINE:
                raise LinkLostError(f"nothing was heard of the controller for {OFFLINE_AFTER_S:g} s")
            self._session.tick(now)
            for text in self._session.take_outgoing():
                try:
                    async with asyncio.timeout(WRITE_TIMEOUT_S):
                        await self._socket.send(text)
                except TimeoutError:
                    why = f"the controller took nothing for {WRITE_TIMEOUT_S:g} s"
                    raise LinkLostError(why) from None
            rest_s = self._session.next_tick_at(now) - self._clock.monotonic()
            await race(self._wake.wait(), self._clock.sleep(max(0.0, rest_s)))

    async def _report(self) -> NoReturn:
        while True:
            self._news.clear()
            room = REPORTS_IN_FLIGHT - (self._fed - self._acked)
            try:
                moves = await self._journal.pending(after=self._fed, limit=room) if room > 0 else []
            except JournalError as exc:
                log.warning("reports could not be read", reason=str(exc))
                await self._clock.sleep(JOURNAL_RETRY_S)
                continue
            if moves:
                self._session.report(self._journal.incarnation, moves, self._clock.monotonic())
                self._fed = moves[-1].n
                self._wake.set()
            else:
                await self._news.wait()

    async def _show_progress(self) -> NoReturn:
        shown: dict[Ref, Progress] = {}
        while True:
            now = {one.ref: one for one in self._executor.progress()}
            changed = [one for ref, one in now.items() if shown.get(ref) != one]
            for one in changed:
                self._session.send(one)
            if changed:
                self._wake.set()
            shown = now
            await self._clock.sleep(PROGRESS_EVERY_S)
