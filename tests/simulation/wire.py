"""The network between agents and the controller: connections in memory, and all that can go wrong with them.

A connection ends in two `Socket`s, which stand in the places of websockets' own. What is done to a frame is
drawn when it is sent; a host that is cut off (`Weather.away`) keeps its connections, half-open: what is sent
over them waits, as TCP would keep it, and comes when the host is back, unless an end has closed meanwhile."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from random import Random
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding
from websockets.exceptions import ConnectionClosedError, ConnectionClosedOK
from websockets.frames import Close

from shared.identity import agent_uri
from tests.fakes.certificates import spare_authority

LATENCY_S: Final = 0.002


@dataclass
class Weather:
    """How the network of one host does. Chances are in percent and hold for each frame."""

    random: Random
    tally: Counter[str]
    drop: int = 0
    duplicate: int = 0
    delay: int = 0
    away: bool = False

    def fates(self) -> list[float]:
        """After how many seconds each copy of a frame arrives; a delayed one lets later ones pass it."""
        if self._happens(self.drop, "frame dropped"):
            return []
        late_s = (
            self.random.choice([0.3, 2.0, 7.0, 30.0]) if self._happens(self.delay, "frame delayed") else 0.0
        )
        copies = [LATENCY_S + late_s]
        if self._happens(self.duplicate, "frame duplicated"):
            copies.append(LATENCY_S + self.random.choice([0.0, 0.5, 6.0]))
        return copies

    def clear(self) -> None:
        """Let all go well from now on."""
        self.drop = self.duplicate = self.delay = 0
        self.away = False

    def _happens(self, percent: int, what: str) -> bool:
        if percent and self.random.randrange(100) < percent:
            self.tally[what] += 1
            return True
        return False


class Pipe:
    """One direction of a connection."""

    def __init__(self, weather: Weather) -> None:
        self._weather = weather
        self._arrived: deque[str] = deque()
        self._kept: deque[str] = deque()  # under way to or from a host that is cut off
        self._news = asyncio.Event()
        self.used_at = asyncio.get_running_loop().time()
        self._goodbye: ConnectionClosedOK | None = None
        self.ended: ConnectionClosedError | ConnectionClosedOK | None = None

    def send(self, text: str) -> None:
        loop = asyncio.get_running_loop()
        self.used_at = loop.time()
        for seconds in self._weather.fates():
            loop.call_later(seconds, self._arrive, text)

    def _arrive(self, text: str) -> None:
        if self.ended is not None:
            return
        if self._weather.away:
            self._kept.append(text)
            return
        self._arrived.append(text)
        self._news.set()

    def flush(self) -> None:
        """The host is back: what TCP has kept arrives."""
        while self._kept:
            self._arrive(self._kept.popleft())
        if self._goodbye is not None:
            self.end(self._goodbye)

    def say_goodbye(self, goodbye: ConnectionClosedOK) -> None:
        """End it in good order, as soon as the host can hear of that."""
        self._goodbye = goodbye
        if not self._weather.away:
            self.end(goodbye)

    def end(self, reason: ConnectionClosedError | ConnectionClosedOK) -> None:
        """Nothing arrives any more; what has arrived can still be read."""
        self.ended = self.ended or reason
        self._news.set()

    async def recv(self) -> str:
        while not self._arrived:
            if self.ended is not None:
                raise self.ended
            self._news.clear()
            await self._news.wait()
        return self._arrived.popleft()


class KeyShown:
    """All agents have the spare authority's key: making one for each costs time, and says no more."""

    def getpeercert(self, *, binary_form: bool) -> bytes:
        assert binary_form
        return spare_authority()[1].certificate.public_bytes(Encoding.DER)


class Transport(asyncio.BaseTransport):
    """What TLS has found out about the other end, which is all that is asked of it."""

    def show(self, agent_id: str, serial: str) -> None:
        """Be from an agent with such a certificate."""
        self._extra = {
            "peercert": {
                "subjectAltName": (("URI", agent_uri(agent_id)),),
                "serialNumber": serial,
                "notAfter": "Dec 31 23:59:59 9999 GMT",
            },
            "ssl_object": KeyShown(),
        }


class Socket:
    """One end. `recv` and `send` raise ConnectionClosed when the connection is known to be over here."""

    remote_address = ("192.0.2.1", 4711)
    request = None  # as if it had asked for a link

    def __init__(self, inward: Pipe, outward: Pipe) -> None:
        self.transport = Transport()
        self._inward, self._outward = inward, outward

    async def send(self, text: str) -> None:
        if self._inward.ended is not None:
            raise self._inward.ended
        self._outward.send(text)

    async def recv(self) -> str:
        return await self._inward.recv()

    async def __aiter__(self) -> AsyncIterator[str]:
        try:
            while True:
                yield await self.recv()
        except ConnectionClosedOK:
            return

    async def close(self, code: int = 1000, reason: str = "") -> None:
        """Say goodbye; the other end hears of it while the network works."""
        goodbye = ConnectionClosedOK(Close(code, reason), Close(code, reason), rcvd_then_sent=True)
        self._inward.end(goodbye)
        self._outward.say_goodbye(goodbye)


class Connection:
    """Both ends of what one agent has opened."""

    def __init__(self, agent_id: str, weather: Weather) -> None:
        self.up, self.down = Pipe(weather), Pipe(weather)
        self.agent_id, self.weather = agent_id, weather
        self.agent_end = Socket(self.down, self.up)
        self.hub_end = Socket(self.up, self.down)

    def cut(self) -> None:
        """Break it as a reset does: both ends notice."""
        self.lose_at_agent()
        self.lose_at_hub()

    def lose_at_agent(self) -> None:
        """Only the agent notices: the controller is left with a half-open connection."""
        self.down.end(ConnectionClosedError(None, None))

    def lose_at_hub(self) -> None:
        """Only the controller notices."""
        self.up.end(ConnectionClosedError(None, None))

    @property
    def over(self) -> bool:
        return self.up.ended is not None and self.down.ended is not None
