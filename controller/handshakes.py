"""TLS handshakes: how many may be under way, all together and from one network.

asyncio bounds neither. Nor is a TLS object told whose connection it serves: the listening socket leaves that
in the context in which asyncio starts the task of each connection that it takes."""

import asyncio
import socket
import ssl
from contextvars import ContextVar
from typing import Any, Final
from weakref import WeakSet, WeakValueDictionary

from controller.core.allowance import Allowance, peer_group
from shared.clock import Clock
from shared.logs import get_log

MAX_HANDSHAKES: Final = 1_000
"""At once. Agents return at 100 a second and take a few milliseconds each; who opens a connection and says
nothing holds his place for as long as a handshake may take."""
MAX_OF_ONE: Final = 200
"""Of these for one network (`peer_group`). All hosts of a site may come from one address."""
TOLD_PER_S: Final = 1.0  # lines of the log about refused connections, whoever opens how many
TOLD_AT_ONCE: Final = 20

_PEER: ContextVar[str] = ContextVar("peer", default="")

log = get_log(__name__)


class TooManyHandshakesError(ssl.SSLError):
    """The connection is closed; an agent tries again within its reconnect window."""


class Network:
    """Its handshakes that are under way. It is there as long as a connection of it is."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.under_way: WeakSet[BoundedObject] = WeakSet()


class Handshakes:
    """Those of one port; what vanishes in its handshake counts no more. For the event loop alone."""

    def __init__(self, clock: Clock, *, limit: int = MAX_HANDSHAKES, of_one: int = MAX_OF_ONE) -> None:
        self._clock, self._limit, self._of_one = clock, limit, of_one
        self._under_way: WeakSet[BoundedObject] = WeakSet()
        self._networks: WeakValueDictionary[str, Network] = WeakValueDictionary()
        self._told = Allowance(TOLD_PER_S, TOLD_AT_ONCE, clock.monotonic())

    def find_network(self) -> Network:
        """Whose connection is being taken now; "" where another socket than `listen` made listens."""
        name = _PEER.get()
        return self._networks.setdefault(name, Network(name))

    def begin(self, one: "BoundedObject") -> None:
        """Safe to repeat. Raises TooManyHandshakesError."""
        if one in self._under_way:
            return
        if len(self._under_way) >= self._limit:
            self._refuse(one, f"{self._limit} handshakes are under way already")
        if one.network.name and len(one.network.under_way) >= self._of_one:
            self._refuse(one, f"{self._of_one} handshakes of this network are under way already")
        self._under_way.add(one)
        one.network.under_way.add(one)

    def end(self, one: "BoundedObject") -> None:
        """Safe to repeat."""
        self._under_way.discard(one)
        one.network.under_way.discard(one)

    def _refuse(self, one: "BoundedObject", why: str) -> None:
        if self._told.take(1, self._clock.monotonic()) == 0.0:
            log.warning("a connection was refused", peer=one.network.name, reason=why)
        raise TooManyHandshakesError(why)


class BoundedObject(ssl.SSLObject):
    """One connection of a BoundedContext."""

    handshakes: Handshakes
    network: Network

    def do_handshake(self) -> None:
        """As SSLObject's, called again with each piece that arrives. Raises TooManyHandshakesError too."""
        self.handshakes.begin(self)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError:
            self.handshakes.end(self)
            raise
        self.handshakes.end(self)


class BoundedContext(ssl.SSLContext):
    """For a server's side over memory buffers, as asyncio uses them. `handshakes` comes before the first."""

    sslobject_class = BoundedObject
    handshakes: Handshakes

    def wrap_bio(self, *args: Any, **more: Any) -> ssl.SSLObject:
        """As SSLContext's, in the task of the connection."""
        wrapped = super().wrap_bio(*args, **more)
        assert isinstance(wrapped, BoundedObject)
        wrapped.handshakes, wrapped.network = self.handshakes, self.handshakes.find_network()
        return wrapped


class ListeningSocket(socket.socket):
    """What serves a connection of it can tell whose it is."""

    __slots__ = ()

    def accept(self) -> tuple[socket.socket, Any]:
        """As socket's; the caller starts a task for the connection before it takes the next one."""
        connection, address = super().accept()
        _PEER.set(peer_group(address[0]))
        return connection, address


async def listen(host: str, port: int) -> list[ListeningSocket]:
    """A bound socket for each address that `host` stands for, as loop.create_server makes them. Raises
    OSError."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    made: list[ListeningSocket] = []
    try:
        for family, kind, protocol, _, address in dict.fromkeys(found):
            made.append(one := ListeningSocket(family, kind, protocol))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                one.bind(address)
            except OSError as exc:
                why = (exc.strerror or str(exc)).lower()
                raise OSError(exc.errno, f"cannot listen on {host} port {port}: {why}") from None
    except BaseException:
        for one in made:
            one.close()
        raise
    return made
