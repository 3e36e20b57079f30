"""Why a TLS handshake failed, told the peer as TLS means it, and the log.

When a server's handshake fails, asyncio drops the connection with the alert still unsent, so that the peer
cannot tell a refused certificate from a network that is down. Here the failure is held back until the alert
is on its way: the handshake goes on as if it waited for the peer, until that has closed the connection or the
deadline for handshakes is over."""

import ssl
from typing import Any, NoReturn

from controller.handshakes import BoundedContext, BoundedObject, TooManyHandshakesError
from shared.logs import get_log

log = get_log(__name__)


class TellingObject(BoundedObject):
    """One connection of a TellingContext."""

    incoming: ssl.MemoryBIO
    is_refused = False

    def do_handshake(self) -> None:
        """As BoundedObject's, but that a failure looks like a wait for the peer, and keeps its place."""
        if self.is_refused:
            self._wait()
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError, TooManyHandshakesError):
            raise
        except ssl.SSLError as exc:
            if isinstance(exc, ssl.SSLCertVerificationError):
                log.warning("a certificate was refused", reason=exc.verify_message)
            self.handshakes.begin(self)
            self.is_refused = True
            self._wait()

    def _wait(self) -> NoReturn:
        """Have what is to be sent sent; what comes is of no interest, and takes no memory."""
        while self.incoming.read(65_536):
            pass
        raise ssl.SSLWantReadError


class TellingContext(BoundedContext):
    """Its handshakes are bounded, and those that fail are told of."""

    sslobject_class = TellingObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        """As SSLContext's."""
        wrapped = super().wrap_bio(incoming, *args, **more)
        assert isinstance(wrapped, TellingObject)
        wrapped.incoming = incoming
        return wrapped
