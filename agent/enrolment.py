"""Asks the controller what is asked beside a link, for a certificate or to be let go: one question on a
connection of its own.

Its path and frames: shared/enrolment.py."""

import asyncio
import http.client
import ssl
from typing import Final
from urllib.parse import urlsplit

from websockets.exceptions import InvalidStatus, WebSocketException

from agent.direct import DirectConnect
from releasehand.shown import escape_controls
from shared.enrolment import (
    ANSWER_WITHIN_S,
    AUTHORITY_PATH,
    LEAVE_PATH,
    MAX_QUESTION_BYTES,
    Answer,
    Joined,
    Leave,
    Left,
    Question,
    decode_answer,
)
from shared.errors import ProtocolError, ReleasehandError
from shared.frames import Refuse, encode

MAX_AUTHORITIES_BYTES: Final = 65_536
MAX_ANSWER_BYTES: Final = 4 * MAX_QUESTION_BYTES
_LET_GO: Final = (ConnectionResetError, ConnectionAbortedError, BrokenPipeError, ssl.SSLEOFError)


class UnansweredError(ReleasehandError):
    """Nobody answered, or not as a controller does; the same question may be asked again."""


class BusyError(UnansweredError):
    """The controller is there, and has no time for this host now: it said so, or let go of the connection
    before it was one, as it does when too many come at once."""


class RefusedError(ReleasehandError):
    """The controller does not do what it was asked. `code` is one of its own, the text says what to do."""

    def __init__(self, code: str, reason: str) -> None:
        self.code = code
        super().__init__(f"the controller refused: {escape_controls(reason)} ({escape_controls(code)})")


def fetch_authorities(url: str) -> bytes:
    """What the hub at `url` says that its authorities are, PEM. Nobody vouches for it yet. Blocks. Raises
    UnansweredError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # a join token tells, right afterwards
    parts = urlsplit(url)
    connection = http.client.HTTPSConnection(
        parts.hostname or "", parts.port or 443, context=context, timeout=ANSWER_WITHIN_S
    )
    try:
        connection.request("GET", AUTHORITY_PATH)
        answer = connection.getresponse()
        content = answer.read(MAX_AUTHORITIES_BYTES)
    except (OSError, http.client.HTTPException) as exc:
        kind = BusyError if isinstance(exc, _LET_GO) else UnansweredError
        raise kind(f"cannot reach a controller at {parts.netloc}: {_say(exc)}") from exc
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        said = escape_controls(content.decode("utf-8", "replace").strip()[:200])
        kind = BusyError if answer.status == http.HTTPStatus.SERVICE_UNAVAILABLE else UnansweredError
        raise kind(f"cannot join at {parts.netloc}: it answered HTTP {answer.status} {said}")
    return content


async def ask(url: str, path: str, question: Question, tls: ssl.SSLContext) -> Joined:
    """Ask the hub at `url` for a certificate. Whether that is the right one, `tls` knows.

    Safe to repeat, and to cancel. Raises RefusedError, BusyError, UnansweredError, ProtocolError."""
    answer = await _put(url, path, question, tls)
    if not isinstance(answer, Joined):
        raise ProtocolError("unexpected_frame", f"{answer.type} in answer to {question.type}")
    return answer


async def ask_to_leave(url: str, tls: ssl.SSLContext) -> Left:
    """Have the hub at `url` let this agent go, whose certificate `tls` shows.

    Safe to repeat, and to cancel. Raises RefusedError, UnansweredError, ProtocolError."""
    answer = await _put(url, LEAVE_PATH, Leave(), tls)
    if not isinstance(answer, Left):
        raise ProtocolError("unexpected_frame", f"{answer.type} in answer to leave")
    return answer


async def _put(url: str, path: str, question: Question, tls: ssl.SSLContext) -> Joined | Left:
    """Raises RefusedError, UnansweredError, ProtocolError."""
    where = urlsplit(url).netloc
    try:
        async with (
            asyncio.timeout(ANSWER_WITHIN_S),
            DirectConnect(
                url.rstrip("/") + path,
                ssl=tls,
                compression=None,
                proxy=None,
                max_size=MAX_ANSWER_BYTES,
                open_timeout=ANSWER_WITHIN_S,
                close_timeout=1,
                ping_interval=None,
            ) as socket,
        ):
            await socket.send(encode(question))
            answer: Answer = decode_answer(await socket.recv())
    except (OSError, WebSocketException) as exc:
        kind = BusyError if isinstance(exc, _LET_GO) or _is_put_off(exc) else UnansweredError
        raise kind(f"cannot get an answer of {where}: {_say(exc)}") from exc
    if isinstance(answer, Refuse) and answer.code == "unavailable":
        raise BusyError(f"cannot get an answer of {where}: {escape_controls(answer.reason)}")
    if isinstance(answer, Refuse):
        raise RefusedError(answer.code, answer.reason)
    return answer


def _is_put_off(error: Exception) -> bool:
    return (
        isinstance(error, InvalidStatus) and error.response.status_code == http.HTTPStatus.SERVICE_UNAVAILABLE
    )


def _say(error: Exception) -> str:
    if _is_put_off(error):
        return "too many hosts ask at once, or this one asks too often (HTTP 503)"
    if isinstance(error, _LET_GO):
        return "it let go of the connection, as it does when too many hosts come at once"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return escape_controls(str(getattr(error, "strerror", None) or error))
