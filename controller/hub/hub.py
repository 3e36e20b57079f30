"""Accepts agents' connections: who is it, what does it have, welcome.

Who it is, its certificate says: TLS has checked that it is of our authority and in force, the store that it
was given out and not revoked."""

import asyncio
import http
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from controller.core.enrolment import EnrolmentRefusedError
from controller.core.refusals import StoreUnavailableError
from controller.dispatcher import Dispatcher
from controller.handshakes import listen
from controller.live import MAX_NUMBER
from controller.notice import Notices
from controller.store import Greeting
from releasehand.model import Presence
from shared.clock import Clock
from shared.errors import ProtocolError
from shared.frames import MAX_FRAME_BYTES, Hello, Refuse, Welcome, decode_from_agent, encode
from shared.logs import get_log

from .doors import Doors
from .link import Link, LinkDeps
from .peer import Peer, read_peer
from .registry import Registry

HEARTBEAT_S: Final = 10.0
HELLO_DEADLINE_S: Final = 10.0
MAX_CLOSE_REASON_BYTES: Final = 123  # RFC 6455, 5.5
CLOSE_TIMEOUT_S: Final = 2.0  # websockets' default would add ten seconds to finding a dead peer
READ_BUFFER_BYTES: Final = 16_384  # asyncio's TLS default costs 256 KiB for each connection
MAX_GREETING: Final = 4  # an agent that reconnects needs two: the old one may not be known as dead yet
BACKLOG: Final = 1_024
RECONNECTS_PER_S: Final = 100
MIN_RECONNECT_WINDOW_S: Final = 4.0
MAX_RECONNECT_WINDOW_S: Final = 100.0

log = get_log(__name__)


class SessionStore(Protocol):
    """Where sessions are opened."""

    async def greet(self, hello: Hello, serial: str, key_sha256: str) -> Greeting:
        """Durable on return. Raises EnrolmentRefusedError unless the certificate with `serial` counts."""
        ...


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where to listen and as whom; `tls` asks for certificates. `max_connections` are open at once."""

    host: str
    port: int
    tls: ssl.SSLContext
    max_connections: int = 20_000


class Hub:
    """The listening socket and the links behind it."""

    def __init__(
        self,
        settings: HubSettings,
        *,
        store: SessionStore,
        registry: Registry,
        dispatcher: Dispatcher,
        notices: Notices,
        deps: LinkDeps,
        doors: Doors,
        clock: Clock,
    ) -> None:
        self._settings, self._store, self._registry = settings, store, registry
        self._dispatcher, self._notices, self._deps, self._clock = dispatcher, notices, deps, clock
        self._doors = doors
        self._open = 0
        self._greeting: Counter[str] = Counter()  # connections by agent that have not been welcomed

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Listen until the block ends, which ends every link; yields the address with its real port. Raises
        OSError."""
        async with AsyncExitStack() as listening:
            sockets = await listen(self._settings.host, self._settings.port)
            for one in sockets:
                listening.callback(one.close)
            for one in sockets:
                await listening.enter_async_context(
                    serve(
                        self.serve_connection,
                        sock=one,
                        ssl=self._settings.tls,
                        process_request=self._admit,
                        compression=None,
                        max_size=MAX_FRAME_BYTES,
                        max_queue=16,
                        ping_interval=None,  # the session's heartbeat is the only judge of presence
                        close_timeout=CLOSE_TIMEOUT_S,
                        open_timeout=HELLO_DEADLINE_S,
                        server_header=None,
                        backlog=BACKLOG,
                        ssl_handshake_timeout=HELLO_DEADLINE_S,
                    )
                )
            host, port = sockets[0].getsockname()[:2]
            yield f"wss://{f'[{host}]' if ':' in host else host}:{port}"

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the upgrade: no link without an agent's certificate, none beyond the limits."""
        if self._doors.leads_to(request):
            return self._doors.admit(connection, request, _address(connection))
        peer = read_peer(connection.transport)
        if peer is not None:
            return self._find_room(connection, peer.agent_id)
        return self._doors.turn_away(connection, _address(connection))

    def _find_room(self, connection: ServerConnection, agent_id: str) -> Response | None:
        if self._open >= self._settings.max_connections:
            words = f"this controller has {self._open} agents' connections, and takes no more\n"
        elif self._greeting[agent_id] >= MAX_GREETING:
            words = f"{MAX_GREETING} connections of this agent wait for their hello already\n"
        else:
            return None
        log.warning("agent was refused", agent_id=agent_id, peer=_address(connection), reason=words.strip())
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, words)

    async def serve_connection(self, connection: ServerConnection) -> None:
        """Serve one agent, whom `_admit` has let in, until its link is over."""
        if self._doors.leads_to(connection.request):
            await self._doors.serve(connection, _address(connection))
            return
        peer = read_peer(connection.transport)
        assert peer is not None, "nobody is let in without"
        self._open += 1
        try:
            await self._serve(connection, peer)
        finally:
            self._open -= 1

    async def _greet(self, connection: ServerConnection, peer: Peer) -> Link:
        self._greeting[peer.agent_id] += 1
        try:
            return await self._welcome(connection, await self._read_hello(connection, peer), peer)
        finally:
            self._greeting[peer.agent_id] -= 1
            if not self._greeting[peer.agent_id]:
                del self._greeting[peer.agent_id]

    async def _serve(self, connection: ServerConnection, peer: Peer) -> None:
        try:
            link = await self._greet(connection, peer)
        except EnrolmentRefusedError as exc:
            log.warning("agent was refused", agent_id=peer.agent_id, serial=peer.serial, reason=str(exc))
            await _refuse(connection, exc.code, str(exc))
            return
        except ProtocolError as exc:
            log.warning("agent was refused", peer=_address(connection), reason=str(exc))
            await _refuse(connection, exc.code, exc.reason)
            return
        except StoreUnavailableError as exc:
            log.warning("agent was put off", peer=_address(connection), reason=str(exc))
            await _refuse(connection, "unavailable", "the controller's database does not answer; try again")
            return
        except (ConnectionClosed, TimeoutError):
            log.info("agent left before its welcome", peer=_address(connection))
            return
        log.info("agent connected", agent_id=link.agent_id, epoch=link.epoch)
        try:
            reason = await link.run()
            log.info("agent disconnected", agent_id=link.agent_id, reason=reason)
        finally:
            if self._registry.remove(link):
                self._deps.live.judged(link.agent_id, link.epoch, Presence.SUSPECT)
                self._dispatcher.wake_agent(link.agent_id)
        words = reason.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")  # for the agent's log
        await connection.close(reason=words)

    async def _read_hello(self, connection: ServerConnection, peer: Peer) -> Hello:
        async with asyncio.timeout(HELLO_DEADLINE_S):
            frame = decode_from_agent(await connection.recv())
        if not isinstance(frame, Hello):
            raise ProtocolError("unexpected_frame", "the first frame of an agent is its hello")
        if frame.agent_id != peer.agent_id:
            raise ProtocolError(
                "wrong_agent", f"this certificate is agent '{peer.agent_id}', not '{frame.agent_id}'"
            )
        numbers = [frame.last_n, *(state.generation for state in frame.instances)]
        if max(numbers) > MAX_NUMBER:
            raise ProtocolError("bad_frame", "a number is greater than any that was given out")
        return frame

    async def _welcome(self, connection: ServerConnection, hello: Hello, peer: Peer) -> Link:
        greeting = await self._store.greet(hello, peer.serial, peer.key_sha256)
        welcome = Welcome(
            server_time=self._clock.now(),
            heartbeat_interval_s=self._deps.heartbeat_s,
            session_epoch=greeting.epoch,
            reconnect_window_s=reconnect_window_s(len(self._registry) + 1),
            acked=greeting.acked,
            trust_sha256=self._deps.enrolment.trust_sha256,
            wanted=greeting.wanted,
            refused=greeting.refused,
        )
        await connection.send(encode(welcome))
        link = Link(
            connection,
            peer,
            hello,
            epoch=greeting.epoch,
            received=greeting.acked,
            deps=self._deps,
            refused=greeting.refused,
        )
        self._registry.add(link)
        self._notices.tell(greeting.changed)
        return link


def reconnect_window_s(agents: int) -> float:
    """Over how long agents are to spread their return, so that no more than RECONNECTS_PER_S come in a
    second."""
    return min(MAX_RECONNECT_WINDOW_S, max(MIN_RECONNECT_WINDOW_S, agents / RECONNECTS_PER_S))


def _address(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else "unknown"


async def _refuse(connection: ServerConnection, code: str, reason: str) -> None:
    try:
        async with asyncio.timeout(1):
            await connection.send(encode(Refuse(code=code, reason=reason)))
    except (ConnectionClosed, TimeoutError):
        return
