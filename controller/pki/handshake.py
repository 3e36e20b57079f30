"""TLS handshakes: how many may be under way, and why one failed, told the peer as TLS means it, and the log.

asyncio does neither. When a server's handshake fails it drops the connection with the alert still unsent, so
that the peer cannot tell a refused certificate from a network that is down. Here the failure is held back
until the alert is on its way: the handshake goes on as if it waited for the peer, until that has closed the
connection or the deadline for handshakes is over."""

import ssl
from typing import Any, Final, NoReturn
from weakref import WeakSet

from shared.logs import get_log

MAX_HANDSHAKES: Final = 1_000
"""At once. Agents return at 100 a second and take a few milliseconds each; who opens a connection and says
nothing holds his place for as long as a handshake may take."""

log = get_log(__name__)


class TooManyHandshakesError(ssl.SSLError):
    """The connection is closed; an agent tries again within its reconnect window."""


class TellingObject(ssl.SSLObject):
    """One connection of a TellingContext."""

    incoming: ssl.MemoryBIO
    under_way: "WeakSet[TellingObject]"
    limit: int
    is_refused = False

    def do_handshake(self) -> None:
        """As SSLObject's, called again with each piece that arrives, but that a failure looks like a wait for
        the peer. Raises TooManyHandshakesError too."""
        if self.is_refused:
            self._wait()
        if self not in self.under_way and len(self.under_way) >= self.limit:
            log.warning("a connection was refused", reason=f"{self.limit} handshakes are under way already")
            raise TooManyHandshakesError(f"{self.limit} handshakes are under way already")
        self.under_way.add(self)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            if isinstance(exc, ssl.SSLCertVerificationError):
                log.warning("a certificate was refused", reason=exc.verify_message)
            self.is_refused = True
            self._wait()
        self.under_way.discard(self)

    def _wait(self) -> NoReturn:
        """Have what is to be sent sent; what comes is of no interest, and takes no memory."""
        while self.incoming.read(65_536):
            pass
        raise ssl.SSLWantReadError


class TellingContext(ssl.SSLContext):
    """For a server's side over memory buffers, as asyncio uses them. At most `max_handshakes` are under way;
    those that vanish in theirs count no more."""

    sslobject_class = TellingObject
    max_handshakes = MAX_HANDSHAKES

    def __init__(self, *_: object) -> None:
        self._under_way: WeakSet[TellingObject] = WeakSet()

    def wrap_bio(self, incoming: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        """As SSLContext's."""
        wrapped = super().wrap_bio(incoming, *args, **more)
        assert isinstance(wrapped, TellingObject)
        wrapped.incoming, wrapped.under_way, wrapped.limit = incoming, self._under_way, self.max_handshakes
        return wrapped
