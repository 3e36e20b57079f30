"""Keeps a link to the controller: connects, says hello, and connects again whenever it is lost, for ever.

The agent does its work whether there is a link or not; what it has to say waits in the journal."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from random import random
from typing import Any, Final, NoReturn

from pydantic import ValidationError
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import InvalidMessage, WebSocketException
from websockets.frames import CloseCode

from agent.core.link_state import LinkCondition, LinkState
from agent.direct import DirectConnect
from agent.enrolment import RefusedError
from agent.executor import Executor
from agent.identity import Membership
from agent.journal import Journal
from agent.link import Link, LinkLostError, LinkRefusedError
from agent.pulse import Pulse
from agent.renewal import Renewals
from agent.trouble import describe_trouble, is_expiry, is_refusal
from shared.clock import Clock
from shared.errors import ReleasehandError
from shared.frames import MAX_FRAME_BYTES, Hello, Refuse, Welcome, decode_from_controller, encode
from shared.logs import get_log
from shared.session import QueueFullError

OPEN_TIMEOUT_S: Final = 10.0
CLOSE_TIMEOUT_S: Final = 2.0
WELCOME_TIMEOUT_S: Final = 10.0
TOLERATED_SKEW_S: Final = 30.0
MIN_WINDOW_S: Final = 4.0  # until a controller says how many come back with this agent, and at the least
MAX_WINDOW_S: Final = 100.0
SHUT_OUT: Final = frozenset(
    {"certificate_revoked", "unknown_certificate", "certificate_expired", "other_key"}
)

log = get_log(__name__)


@dataclass(frozen=True)
class HostFacts:
    """What `hello` tells of the host and its daemon; who the agent is, its certificate says."""

    version: str
    host: str
    boot_id: str
    metadata: dict[str, str]


class _Connection(ClientConnection):
    """Tells what TLS said. In TLS 1.3 a client hears only after its own handshake that it was refused."""

    async def handshake(self, *args: Any, **more: Any) -> None:
        """As ClientConnection's; raises ssl.SSLError as well."""
        try:
            await super().handshake(*args, **more)
        except InvalidMessage:
            if isinstance(self.connection_exc, ssl.SSLError):
                raise self.connection_exc from None
            raise


def _is_shut_out(error: Exception) -> bool:
    """Whether nothing but a person will make it better: such an agent tries slowly."""
    return isinstance(error, LinkRefusedError | RefusedError) and error.code in SHUT_OUT


async def _show_nobody(_: LinkState) -> None:
    pass


class Uplink:
    """Keep `run` running."""

    def __init__(
        self,
        read_membership: Callable[[], Membership],
        facts: HostFacts,
        *,
        executor: Executor,
        journal: Journal,
        pulse: Pulse,
        clock: Clock,
        news: asyncio.Event,
        jitter: Callable[[], float] = random,
        show: Callable[[LinkState], Awaitable[None]] = _show_nobody,
        renewals: Renewals | None = None,
    ) -> None:
        """`read_membership` is called in a thread before each connection, for it may have changed; it raises
        ReleasehandError. `jitter` gives numbers in [0, 1); `news` is set whenever the journal has something
        new to report; `show` is told how the link is whenever that changes. Without `renewals`
        certificates are kept to their end."""
        self._read_membership, self._facts = read_membership, facts
        self._member: Membership | None = None
        self._executor, self._journal, self._pulse = executor, journal, pulse
        self._clock, self._jitter, self._news, self._show = clock, jitter, news, show
        self._renewals = renewals
        self._window_s = MIN_WINDOW_S
        self._state = LinkState(LinkCondition.CONNECTING, clock.now())
        self._told = ""
        self._expired = False  # the hub says so, whatever this host's clock says
        self._since = 0.0  # the end of the newest link or the start of the newest try, whichever is later

    async def run(self) -> NoReturn:
        """Connect, work, connect again; until cancelled.

        The pause counts from the end of a link, or from the start of a try that led to none: one into a
        network that is dead takes long itself, and the agent is to be back within the window."""
        await self._show(self._state)
        while True:
            self._since = self._clock.monotonic()
            try:
                await self._hold_link()
            except (OSError, WebSocketException, ReleasehandError, QueueFullError, ValidationError) as exc:
                reason = describe_trouble(exc, self._member, self._clock.now())
                window_s = MAX_WINDOW_S if _is_shut_out(exc) else self._window_s
                self._expired = is_expiry(exc)
                refused = isinstance(exc, LinkRefusedError | RefusedError) or is_refusal(exc)
            delay_s = max(0.0, self._jitter() * window_s - (self._clock.monotonic() - self._since))
            self._tell(reason, delay_s)
            await self._turn(LinkCondition.REFUSED if refused else LinkCondition.OFFLINE, why=reason)
            await self._clock.sleep(delay_s)

    async def _hold_link(self) -> NoReturn:
        self._member = None
        self._member = member = await asyncio.to_thread(self._read_membership)
        self._state = replace(self._state, controller=member.url)
        if self._renewals is not None and (self._expired or member.ends_at <= self._clock.now()):
            self._expired = False
            self._member = member = await self._renewals.renew_expired(member)
        async with DirectConnect(
            member.url,
            create_connection=_Connection,
            ssl=member.tls,
            user_agent_header=f"releasehand-agent/{self._facts.version}",
            compression=None,
            proxy=None,
            max_size=MAX_FRAME_BYTES,
            open_timeout=OPEN_TIMEOUT_S,
            close_timeout=CLOSE_TIMEOUT_S,
            ping_interval=None,  # the session's heartbeat is the only judge of silence
        ) as socket:
            try:
                await self._keep(socket, member)
            except asyncio.CancelledError:
                await socket.close(CloseCode.GOING_AWAY, "the agent is stopping")
                raise

    async def _keep(self, socket: ClientConnection, member: Membership) -> NoReturn:
        welcome = await self._greet(socket, member.agent_id)
        self._compare_clocks(welcome)
        self._window_s = min(max(MIN_WINDOW_S, welcome.reconnect_window_s), MAX_WINDOW_S)
        self._told = ""
        self._state = replace(self._state, last_heard=self._clock.now())
        await self._turn(LinkCondition.ONLINE)
        log.info("link was established", controller=member.url, epoch=welcome.session_epoch)
        link = Link(
            socket,
            welcome,
            executor=self._executor,
            journal=self._journal,
            pulse=self._pulse,
            clock=self._clock,
            jitter=self._jitter,
            news=self._news,
            renewal=self._renewals.of_link(member, welcome.trust_sha256) if self._renewals else None,
        )
        try:
            await link.run()
        finally:
            self._since = self._clock.monotonic()
            silent_for = timedelta(seconds=self._since - link.heard_at)
            self._state = replace(self._state, last_heard=self._clock.now() - silent_for)

    async def _greet(self, socket: ClientConnection, agent_id: str) -> Welcome:
        await socket.send(encode(await self._hello(agent_id)))
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                frame = decode_from_controller(await socket.recv())
        except TimeoutError:
            raise LinkLostError(f"the controller said no welcome within {WELCOME_TIMEOUT_S:g} s") from None
        if isinstance(frame, Refuse):
            raise LinkRefusedError(frame.code, frame.reason)
        if not isinstance(frame, Welcome):
            raise LinkLostError(f"the controller began with {frame.type} instead of welcome")
        if frame.acked > self._journal.last_n:
            # Only an old copy of the journal forgets numbers: its reports would be taken for copies.
            forgot = (
                f"the controller has {frame.acked} reports of this journal, which gave {self._journal.last_n}"
            )
            await self._journal.renew_incarnation()
            raise LinkLostError(f"{forgot}: it was restored from a copy, so its reports begin anew")
        if frame.acked < await self._journal.acknowledged_n():
            # Only another database forgets what it acknowledged: it would wait for those reports for ever.
            await self._journal.renew_incarnation()
            raise LinkLostError(
                "the controller has forgotten reports that it had acknowledged: its database is a new"
                " or an old one, so reports begin anew"
            )
        return frame

    async def _hello(self, agent_id: str) -> Hello:
        facts = self._facts
        return Hello(
            agent_id=agent_id,
            agent_version=facts.version,
            host=facts.host,
            boot_id=facts.boot_id,
            incarnation=self._journal.incarnation,
            last_n=self._journal.last_n,
            instances=await self._executor.states(),
            open_attempts=self._executor.open_attempts(),
            metadata=facts.metadata,
        )

    def _compare_clocks(self, welcome: Welcome) -> None:
        """Times in the log and ends of certificates are by both clocks."""
        ahead_s = (self._clock.now() - welcome.server_time).total_seconds()
        if abs(ahead_s) >= TOLERATED_SKEW_S:
            log.info("this host's clock is not the controller's", ahead_s=round(ahead_s))

    async def _turn(self, condition: LinkCondition, *, why: str = "") -> None:
        before = self._state
        self._state = before.turned(condition, self._clock.now(), why=why)
        if (before.condition, before.why) != (condition, why):
            await self._show(self._state)

    def _tell(self, reason: str, delay_s: float) -> None:
        """Say each reason once, not once per try."""
        if reason != self._told:
            log.warning("no link to the controller", reason=reason, next_try_s=round(delay_s, 1))
            self._told = reason
        else:
            log.debug("still no link to the controller", reason=reason, next_try_s=round(delay_s, 1))
