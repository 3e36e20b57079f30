"""Handshakes that fail: asyncio drops them without a word, and an operator wants to know why a host is
away."""

import ssl

from shared.logs import get_log

log = get_log(__name__)


class ToldObject(ssl.SSLObject):
    """Logs why a certificate was refused, as `SSLContext.sslobject_class`. Whose it was, TLS does not say."""

    def do_handshake(self) -> None:
        """As SSLObject's; raises what that raises."""
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as exc:
            log.warning("a certificate was refused", reason=exc.verify_message)
            raise
