"""Handshakes that fail: why is said to the peer, as TLS means it, and in the log.

asyncio does neither. When a server's handshake fails it drops the connection with the alert still unsent, so
that the peer cannot tell a refused certificate from a network that is down. Here the failure is held back
until the alert is on its way: the handshake goes on as if it waited for the peer, until that has closed the
connection or the deadline for handshakes is over."""

import ssl
from typing import Any, NoReturn

from shared.logs import get_log

log = get_log(__name__)


class TellingObject(ssl.SSLObject):
    """One connection of a TellingContext."""

    incoming: ssl.MemoryBIO
    is_refused = False

    def do_handshake(self) -> None:
        """As SSLObject's, but that a failure looks like a wait for the peer."""
        if self.is_refused:
            self._wait()
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLError as exc:
            if isinstance(exc, ssl.SSLCertVerificationError):
                log.warning("a certificate was refused", reason=exc.verify_message)
            self.is_refused = True
            self._wait()

    def _wait(self) -> NoReturn:
        """Have what is to be sent sent; what comes is of no interest, and takes no memory."""
        while self.incoming.read(65_536):
            pass
        raise ssl.SSLWantReadError


class TellingContext(ssl.SSLContext):
    """For a server's side over memory buffers, as asyncio uses them."""

    sslobject_class = TellingObject

    def wrap_bio(self, incoming: ssl.MemoryBIO, *args: Any, **more: Any) -> ssl.SSLObject:
        """As SSLContext's."""
        wrapped = super().wrap_bio(incoming, *args, **more)
        assert isinstance(wrapped, TellingObject)
        wrapped.incoming = incoming
        return wrapped
