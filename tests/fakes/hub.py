"""A controller's end of the agent link: a real WebSocket server that does as a test says."""

import asyncio
import http
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from controller.hub.peer import read_peer
from shared.clock import SystemClock
from shared.enrolment import AUTHORITY_PATH
from shared.frames import (
    ControllerFrame,
    Hello,
    Move,
    Progress,
    Ref,
    Refuse,
    RefusedInstance,
    Report,
    Wanted,
    Welcome,
    decode_from_agent,
    encode,
)
from shared.session import Session
from tests.fakes.certificates import give_identity, spare_authority, spare_hub

FrameT = TypeVar("FrameT")


class FakeHub:
    """One agent at a time. What it recorded survives its links, as a database would."""

    def __init__(self) -> None:
        self.url = ""
        self.clock = SystemClock()
        self.hellos: list[Hello] = []
        self.moves: list[Move] = []
        self.progress: list[Progress] = []
        self.heartbeats = 0
        self.goodbyes: list[int | None] = []  # by which codes agents closed their links
        self.user_agents: list[str] = []
        self.recorded: dict[str, int] = {}
        self.wanted: Callable[[Hello], list[Wanted]] = want_all
        self.refused: list[RefusedInstance] = []
        self.acknowledges = True
        self.is_full = False
        self.answers_authority = False  # at /ca.pem, as a controller does
        self.greets_with: Refuse | None = None  # in the place of a welcome
        self.heartbeat_s = 10.0
        self.reconnect_window_s = 0.0
        self._changed = asyncio.Condition()
        self._link: ServerConnection | None = None
        self._session: Session | None = None

    async def send(self, frame: ControllerFrame) -> None:
        assert self._link is not None
        await self._link.send(encode(frame))

    async def send_raw(self, text: str) -> None:
        assert self._link is not None
        await self._link.send(text)

    async def cut(self) -> None:
        """Lose the link without a word."""
        assert self._link is not None
        self._link.transport.abort()

    async def until(self, found: Callable[[], FrameT | None]) -> FrameT:
        """Wait until `found` returns something that is true."""
        async with self._changed:
            while not (result := found()):
                await self._changed.wait()
            return result

    async def wait_for_end(self, ref: Ref) -> Move:
        key = (ref.instance_id, ref.generation, ref.task, ref.attempt)
        return await self.until(
            lambda: next(
                (
                    move
                    for move in self.moves
                    if move.end and (move.instance_id, move.generation, move.task, move.attempt) == key
                ),
                None,
            )
        )

    async def wait_for_link(self, count: int) -> Hello:
        """Wait for the `count`th hello."""
        await self.until(lambda: len(self.hellos) >= count)
        return self.hellos[count - 1]

    def authorize(self, _: ServerConnection, request: Request) -> Response | None:
        self.user_agents.append(request.headers.get("User-Agent", ""))
        if self.answers_authority and request.path == AUTHORITY_PATH:
            return _.respond(http.HTTPStatus.OK, spare_authority()[1].pem.decode())
        if self.is_full:
            return _.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, "no room\n")
        if read_peer(_.transport) is None:
            return _.respond(http.HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    def take_in(self, state_dir: Path, agent_id: str = "host-1") -> None:
        """Have an agent join this hub."""
        give_identity(state_dir, agent_id, self.url)

    async def hold(self, link: ServerConnection) -> None:
        hello = decode_from_agent(await link.recv())
        assert isinstance(hello, Hello)
        if self.greets_with is not None:
            await link.send(encode(self.greets_with))
            return
        acked = self.recorded.get(hello.incarnation, 0)
        welcome = Welcome(
            server_time=self.clock.now(),
            heartbeat_interval_s=self.heartbeat_s,
            session_epoch=len(self.hellos) + 1,
            reconnect_window_s=self.reconnect_window_s,
            acked=acked,
            wanted=self.wanted(hello),
            refused=self.refused,
        )
        await link.send(encode(welcome))
        self._link = link
        session = Session(now=0, heartbeat_s=1e9, jitter=lambda: 0.5, received=acked)
        async with self._changed:
            self.hellos.append(hello)
            self._changed.notify_all()
        try:
            while True:
                frame = decode_from_agent(await link.recv())
                async with self._changed:
                    for passed in session.receive(frame, 0):
                        self._take(passed, session)
                    self._changed.notify_all()
                for text in session.take_outgoing():
                    if self.acknowledges:
                        await link.send(text)
        except ConnectionClosed as exc:
            self.goodbyes.append(exc.rcvd.code if exc.rcvd else None)

    def _take(self, frame: object, session: Session) -> None:
        match frame:
            case Report(incarnation=incarnation, moves=moves):
                self.moves += moves
                if self.acknowledges:
                    self.recorded[incarnation] = moves[-1].n
                    session.acknowledge(incarnation, moves[-1].n)
            case Progress():
                self.progress.append(frame)
            case _:
                self.heartbeats += 1


def want_all(hello: Hello) -> list[Wanted]:
    return [Wanted.model_validate(one.model_dump()) for one in hello.open_attempts]


@asynccontextmanager
async def run_hub(context: ssl.SSLContext | None = None, *, port: int = 0) -> AsyncIterator[FakeHub]:
    """Serve on 127.0.0.1 until the block ends, by the spare authority or with another context."""
    hub = FakeHub()
    async with serve(
        hub.hold,
        "127.0.0.1",
        port,
        ssl=context or spare_hub(),
        process_request=hub.authorize,
        compression=None,
        ping_interval=None,
        close_timeout=0.1,
    ) as server:
        number = server.sockets[0].getsockname()[1]
        hub.url = f"wss://localhost:{number}"
        yield hub
