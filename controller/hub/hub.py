"""Accepts agents' connections: who is it, what does it have, welcome."""

import asyncio
import hashlib
import hmac
import http
import ssl
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from controller.core.refusals import StoreUnavailableError
from controller.dispatcher import Dispatcher
from controller.live import MAX_NUMBER
from controller.notice import Notices
from controller.store import Greeting
from releasehand.model import Presence
from shared.clock import Clock
from shared.errors import ProtocolError
from shared.frames import MAX_FRAME_BYTES, Hello, Refuse, Welcome, decode_from_agent, encode
from shared.logs import get_log

from .link import Link, LinkDeps
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

    async def greet(self, hello: Hello) -> Greeting:
        """Durable on return."""
        ...


@dataclass(frozen=True, slots=True)
class HubSettings:
    """Where to listen, and the token of each agent; `max_connections` are open at once."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    tokens: Mapping[str, str]
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
        clock: Clock,
    ) -> None:
        self._settings, self._store, self._registry = settings, store, registry
        self._dispatcher, self._notices, self._deps, self._clock = dispatcher, notices, deps, clock
        self._open = 0
        self._greeting: Counter[str] = Counter()  # connections by agent that have not been welcomed
        self._agent_of = {_digest(token): agent_id for agent_id, token in settings.tokens.items()}

    async def start(self) -> Server:
        """Listen. The server is the caller's to close; closing it ends every link."""
        return await serve(
            self.serve_connection,
            self._settings.host,
            self._settings.port,
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
            ssl_handshake_timeout=HELLO_DEADLINE_S if self._settings.tls else None,
        )

    def _admit(self, connection: ServerConnection, request: Request) -> Response | None:
        """Before the upgrade: no link without a token that is known, none beyond the limits."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        found = _digest(token) if scheme.lower() == "bearer" else b""
        for digest, agent_id in self._agent_of.items():
            if hmac.compare_digest(digest, found):
                connection.username = agent_id
                return self._find_room(connection, agent_id)
        log.warning("agent was refused", peer=_peer(connection), reason="unknown token")
        return connection.respond(
            http.HTTPStatus.UNAUTHORIZED, "this controller does not know this agent's token\n"
        )

    def _find_room(self, connection: ServerConnection, agent_id: str) -> Response | None:
        if self._open >= self._settings.max_connections:
            words = f"this controller has {self._open} agents' connections, and takes no more\n"
        elif self._greeting[agent_id] >= MAX_GREETING:
            words = f"{MAX_GREETING} connections of this agent wait for their hello already\n"
        else:
            return None
        log.warning("agent was refused", agent_id=agent_id, peer=_peer(connection), reason=words.strip())
        return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, words)

    async def serve_connection(self, connection: ServerConnection) -> None:
        """Serve one agent, whose id `_admit` has put into `username`, until its link is over."""
        self._open += 1
        try:
            await self._serve(connection)
        finally:
            self._open -= 1

    async def _greet(self, connection: ServerConnection) -> Link:
        agent_id = connection.username or ""
        self._greeting[agent_id] += 1
        try:
            return await self._welcome(connection, await self._read_hello(connection))
        finally:
            self._greeting[agent_id] -= 1
            if not self._greeting[agent_id]:
                del self._greeting[agent_id]

    async def _serve(self, connection: ServerConnection) -> None:
        try:
            link = await self._greet(connection)
        except ProtocolError as exc:
            log.warning("agent was refused", peer=_peer(connection), reason=str(exc))
            await _refuse(connection, exc.code, exc.reason)
            return
        except StoreUnavailableError as exc:
            log.warning("agent was put off", peer=_peer(connection), reason=str(exc))
            await _refuse(connection, "unavailable", "the controller's database does not answer; try again")
            return
        except (ConnectionClosed, TimeoutError):
            log.info("agent left before its welcome", peer=_peer(connection))
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

    async def _read_hello(self, connection: ServerConnection) -> Hello:
        async with asyncio.timeout(HELLO_DEADLINE_S):
            frame = decode_from_agent(await connection.recv())
        if not isinstance(frame, Hello):
            raise ProtocolError("unexpected_frame", "the first frame of an agent is its hello")
        if frame.agent_id != connection.username:
            raise ProtocolError(
                "wrong_agent", f"this token is agent '{connection.username}', not '{frame.agent_id}'"
            )
        numbers = [frame.last_n, *(state.generation for state in frame.instances)]
        if max(numbers) > MAX_NUMBER:
            raise ProtocolError("bad_frame", "a number is greater than any that was given out")
        return frame

    async def _welcome(self, connection: ServerConnection, hello: Hello) -> Link:
        greeting = await self._store.greet(hello)
        welcome = Welcome(
            server_time=self._clock.now(),
            heartbeat_interval_s=self._deps.heartbeat_s,
            session_epoch=greeting.epoch,
            reconnect_window_s=reconnect_window_s(len(self._registry) + 1),
            acked=greeting.acked,
            wanted=greeting.wanted,
            refused=greeting.refused,
        )
        await connection.send(encode(welcome))
        link = Link(
            connection,
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


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _peer(connection: ServerConnection) -> str:
    address = connection.remote_address
    return str(address[0]) if address else "unknown"


async def _refuse(connection: ServerConnection, code: str, reason: str) -> None:
    try:
        async with asyncio.timeout(1):
            await connection.send(encode(Refuse(code=code, reason=reason)))
    except (ConnectionClosed, TimeoutError):
        return
