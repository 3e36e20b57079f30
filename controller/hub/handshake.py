"""TLS handshakes at the agents' port: how many may be under way, and why a certificate was refused."""

import ssl
from typing import ClassVar, Final
from weakref import WeakSet

from shared.logs import get_log

MAX_HANDSHAKES: Final = 1_000
"""At once. Agents return at 100 a second and take a few milliseconds each; who opens a connection and says
nothing holds his place for as long as a handshake may take."""

log = get_log(__name__)


class TooManyHandshakesError(ssl.SSLError):
    """The connection is closed; an agent tries again within its reconnect window."""


class ToldObject(ssl.SSLObject):
    """For `SSLContext.sslobject_class`: bounds the handshakes, and logs why a certificate was refused. Whose
    it was, TLS does not say."""

    limit: ClassVar[int]
    under_way: ClassVar["WeakSet[ToldObject]"]

    def do_handshake(self) -> None:
        """As SSLObject's, called again with each piece that arrives; raises what that raises, and
        TooManyHandshakesError."""
        if self not in self.under_way and len(self.under_way) >= self.limit:
            log.warning("a connection was refused", reason=f"{self.limit} handshakes are under way already")
            raise TooManyHandshakesError(f"{self.limit} handshakes are under way already")
        self.under_way.add(self)
        try:
            super().do_handshake()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise
        except ssl.SSLCertVerificationError as exc:
            log.warning("a certificate was refused", reason=exc.verify_message)
            self.under_way.discard(self)
            raise
        except ssl.SSLError:
            self.under_way.discard(self)
            raise
        self.under_way.discard(self)


def bound_handshakes(limit: int = MAX_HANDSHAKES) -> type[ToldObject]:
    """The class for one server's connections; those that vanish in their handshake count no more."""
    return type("BoundObject", (ToldObject,), {"limit": limit, "under_way": WeakSet()})
