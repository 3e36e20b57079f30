"""Why there is no link, in words that tell an operator where to look and what to do."""

import socket
import ssl
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus
from websockets.frames import CloseCode

from agent.identity import Membership
from releasehand.shown import escape_controls
from shared.errors import ReleasehandError

JOIN_AGAIN: Final = "join again, with a new join token"
_WRONG_PORT: Final = "is this the controller's agent port?"
_EXPIRED_ALERT: Final = "SSLV3_ALERT_CERTIFICATE_EXPIRED"
_MAX_BODY: Final = 300
_NOT_YET_VALID: Final = 9  # X509_verify_cert_error(3)
_EXPIRED: Final = 10
_OTHER_AUTHORITY: Final = frozenset({18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})
_NO_TLS: Final = frozenset({"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"})
_REFUSED: Final = {
    "TLSV1_ALERT_UNKNOWN_CA": "it is of another authority than the controller's",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the controller cannot use it",
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": "it is no agent's certificate",
    "SSLV3_ALERT_CERTIFICATE_REVOKED": "it was revoked",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the controller cannot use it",
    "TLSV1_ALERT_DECRYPT_ERROR": "its key did not sign what it had to",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "none was shown",
}
"""What the controller says of this agent's certificate (RFC 8446, 6.2), by OpenSSL's names."""


def describe_trouble(error: Exception, member: Membership | None, now: datetime) -> str:
    """One line without secrets; what the other side said is escaped. `member` is what was connected with,
    `now` this host's clock."""
    where = urlsplit(member.url).netloc if member else "the controller"
    match error:
        case ssl.SSLCertVerificationError():
            text = _describe_theirs(error, where, now)
        case ssl.SSLError():
            text = _describe_tls(error, where, member, now)
        case ConnectionRefusedError():
            text = f"connection refused: nothing listens at {where}"
        case socket.gaierror():
            text = f"the name in {where} cannot be resolved: {error.strerror}"
        case TimeoutError():
            text = f"no answer from {where} in time"
        case InvalidStatus() if error.response.status_code == 401:
            text = (
                f"{where} saw no certificate of this agent (HTTP 401): is there a proxy in between that ends"
                " TLS? It must pass TCP through"
            )
        case InvalidStatus():
            text = f"{where} answered HTTP {error.response.status_code}: {_body(error) or _WRONG_PORT}"
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


def is_expiry(error: Exception) -> bool:
    """Whether the hub says that this agent's certificate has expired."""
    return isinstance(error, ssl.SSLError) and error.reason == _EXPIRED_ALERT


def is_refusal(error: Exception) -> bool:
    """Whether the controller looked at what this agent shows, and does not take it."""
    if isinstance(error, InvalidStatus):
        return error.response.status_code in {401, 403}
    return isinstance(error, ssl.SSLError) and (error.reason or "") in {_EXPIRED_ALERT, *_REFUSED}


def _body(error: InvalidStatus) -> str:
    """What a controller that takes no more links says beside the status."""
    if error.response.status_code != 503:
        return ""
    return error.response.body[:_MAX_BODY].decode("utf-8", "replace").strip()


def _describe_theirs(error: ssl.SSLCertVerificationError, where: str, now: datetime) -> str:
    """The hub's certificate does not do."""
    if error.verify_code == _NOT_YET_VALID:
        return (
            f"the certificate of {where} is not valid yet by this host's clock, which says {_say(now)}:"
            " set the clock"
        )
    if error.verify_code == _EXPIRED:
        return (
            f"the certificate of {where} has expired by this host's clock, which says {_say(now)}: set the"
            " clock, or look at the controller's log if the clock is right"
        )
    if error.verify_code in _OTHER_NAME:
        host = where.rpartition(":")[0] or where
        return (
            f"the certificate of {where} is not for this name: put '{host}' into hub.names of the controller"
        )
    if error.verify_code in _OTHER_AUTHORITY:
        return (
            f"the certificate of {where} is of another authority than the one that this host joined: another"
            f" controller is there, or its authority was made anew; then {JOIN_AGAIN}"
        )
    return f"the certificate of {where} is not trusted: {error.verify_message}"


def _describe_tls(error: ssl.SSLError, where: str, member: Membership | None, now: datetime) -> str:
    """No TLS, or the hub did not take this agent's certificate."""
    reason = error.reason or ""
    if reason == _EXPIRED_ALERT and member is not None:
        if member.ends_at > now:
            return (
                f"{where} says that this agent's certificate has expired, and by this host's clock (it says"
                f" {_say(now)}) it is good until {_say(member.ends_at)}: one of the two clocks is wrong"
            )
        return f"this agent's certificate ended at {_say(member.ends_at)}: renew it, or {JOIN_AGAIN}"
    if reason == "SSLV3_ALERT_BAD_CERTIFICATE" and member is not None:
        # Also what OpenSSL says of one that has not begun: the controller's clock is far behind then.
        return (
            f"{where} refused this agent's certificate: it is not valid yet by the controller's clock (it is"
            f" from {_say(member.begins_at)} on), or of no use there; compare the clocks, or {JOIN_AGAIN}"
        )
    if reason in _REFUSED:
        return f"{where} refused this agent's certificate: {_REFUSED[reason]}; {JOIN_AGAIN}"
    if reason in _NO_TLS:
        return f"{where} does not speak TLS: {_WRONG_PORT}"
    if "PROTOCOL_VERSION" in reason:
        return f"{where} does not speak TLS 1.3: {_WRONG_PORT}"
    return f"no TLS connection with {where}: {reason or error}"


def _say(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S} UTC"
