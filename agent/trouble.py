"""Why there is no link, in words that tell an operator where to look."""

import socket
import ssl
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode

from releasehand.shown import escape_controls
from shared.errors import ReleasehandError


def describe_trouble(error: Exception, url: str) -> str:
    """One line without secrets; what the other side said is escaped."""
    where = urlsplit(url).netloc
    match error:
        case ssl.SSLCertVerificationError():
            text = f"the certificate of {where} is not trusted: {error.verify_message}"
        case ssl.SSLError():
            text = f"no TLS connection with {where}: {error.reason or error}"
        case ConnectionRefusedError():
            text = f"connection refused: nothing listens at {where}"
        case socket.gaierror():
            text = f"the name in {where} cannot be resolved: {error.strerror}"
        case TimeoutError():
            text = f"no answer from {where} in time"
        case InvalidStatus() if error.response.status_code in {401, 403}:
            text = f"the controller refused this agent's token (HTTP {error.response.status_code})"
        case InvalidStatus():
            text = f"{where} answered HTTP {error.response.status_code}: is this the controller's agent port?"
        case InvalidHandshake():
            text = f"{where} does not speak WebSocket: {error}"
        case ConnectionClosed() if error.rcvd and error.rcvd.code == CloseCode.GOING_AWAY:
            text = "the controller stopped"
        case ConnectionClosed():
            said = error.rcvd
            text = f"the link was closed: {said.reason or said.code}" if said else "the link was cut"
        case ReleasehandError():
            text = str(error)
        case OSError():
            text = f"{where} cannot be reached: {error.strerror or error}"
        case _:
            text = f"the link failed: {error}"
    return escape_controls(text)
