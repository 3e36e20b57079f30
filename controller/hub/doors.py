"""The paths of the agents' port beside the link: for hosts without a certificate in force, and for those that
leave (decisions/0008).

Everything about them is bounded, for anybody may come: size, time, how many at once, how often from one
address. Who is refused pays for it: the next question from its address is let in later."""

import asyncio
import http
from collections import OrderedDict
from collections.abc import Mapping
from typing import Final, Protocol
from urllib.parse import urlsplit

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from controller.core.allowance import Allowance, peer_group
from controller.core.enrolment import EnrolmentCode, EnrolmentRefusedError
from controller.core.refusals import StoreUnavailableError
from shared.clock import Clock
from shared.enrolment import (
    AUTHORITY_PATH,
    JOIN_PATH,
    LEAVE_PATH,
    MAX_QUESTION_BYTES,
    RENEW_PATH,
    Answer,
    Join,
    Joined,
    Leave,
    Left,
    Question,
    RenewExpired,
    decode_question,
)
from shared.errors import ProtocolError
from shared.frames import Refuse, encode
from shared.logs import get_log

from .peer import Peer, read_peer

QUESTION_WITHIN_S: Final = 5.0
MAX_OPEN: Final = 100
CALLS_PER_S: Final = 10.0  # from one address for long
CALL_BURST: Final = 200
REFUSED_COSTS: Final = 20  # calls: ten guesses at once, and then one in two seconds
MAX_ADDRESSES: Final = 10_000
_QUESTIONS: Final[Mapping[str, type[Question]]] = {
    JOIN_PATH: Join,
    RENEW_PATH: RenewExpired,
    LEAVE_PATH: Leave,
}

log = get_log(__name__)


class Registrar(Protocol):
    """Who decides. Raises EnrolmentRefusedError, StoreUnavailableError."""

    trusted: bytes

    async def join(self, asked: Join, *, address: str) -> Joined: ...

    async def renew_expired(self, asked: RenewExpired, *, address: str) -> Joined: ...


class Farewell(Protocol):
    """Who lets go. Raises EnrolmentRefusedError, StoreUnavailableError."""

    async def leave(self, peer: Peer, *, address: str) -> Left: ...


class Doors:
    """For the event loop alone."""

    def __init__(self, registrar: Registrar, farewell: Farewell, clock: Clock) -> None:
        self._registrar, self._farewell, self._clock = registrar, farewell, clock
        self._allowances: OrderedDict[str, Allowance] = OrderedDict()
        self._open = 0

    def leads_to(self, request: Request | None) -> bool:
        """Whether the path of `request` is one of these."""
        return _path(request) in {AUTHORITY_PATH, *_QUESTIONS}

    def admit(self, connection: ServerConnection, request: Request, address: str) -> Response | None:
        """Before the upgrade: the answer, unless a question may follow."""
        wait_s = self._allowance(address).take(1, self._clock.monotonic())
        if wait_s > 0 or self._open >= MAX_OPEN:
            words = "too many hosts ask at once, or this one asks too often: try again later\n"
            return connection.respond(http.HTTPStatus.SERVICE_UNAVAILABLE, words)
        if _path(request) == AUTHORITY_PATH:
            return connection.respond(http.HTTPStatus.OK, self._registrar.trusted.decode())
        connection.protocol.max_message_size = MAX_QUESTION_BYTES
        return None

    def turn_away(self, connection: ServerConnection, address: str) -> Response:
        """The answer to who wants a link without a certificate. The log has each refusal of an address that
        knocks now and then, and some of one that knocks all the time."""
        if self._allowance(address).take(REFUSED_COSTS, self._clock.monotonic()) == 0.0:
            log.warning("agent was refused", peer=address, reason="it showed no certificate")
        words = "this agent showed no certificate: a host joins first, with releasehand-agent join\n"
        return connection.respond(http.HTTPStatus.UNAUTHORIZED, words)

    async def serve(self, connection: ServerConnection, address: str) -> None:
        """Answer the one question of a connection that was let in, and close it."""
        self._open += 1
        try:
            async with asyncio.timeout(QUESTION_WITHIN_S):
                text = await connection.recv()
            answer = await self._answer(connection, text, address)
            async with asyncio.timeout(QUESTION_WITHIN_S):
                await connection.send(encode(answer))
        except (ConnectionClosed, TimeoutError):
            log.info("a host left before it was answered", peer=address)
        finally:
            self._open -= 1

    async def _answer(self, connection: ServerConnection, text: str | bytes, address: str) -> Answer:
        path = _path(connection.request)
        try:
            question = decode_question(text)
            if not isinstance(question, _QUESTIONS[path]):
                raise ProtocolError("unexpected_frame", f"a {question.type} at {path}")
            if isinstance(question, Join):
                return await self._registrar.join(question, address=address)
            if isinstance(question, Leave):
                return await self._farewell.leave(_identify(connection), address=address)
            return await self._registrar.renew_expired(question, address=address)
        except EnrolmentRefusedError as exc:
            return self._refuse(exc.code, str(exc), address)
        except ProtocolError as exc:
            return self._refuse(EnrolmentCode.BAD_REQUEST, exc.reason, address)
        except StoreUnavailableError as exc:
            log.warning("a host was put off", peer=address, reason=str(exc))
            return Refuse(code="unavailable", reason="the controller's database does not answer; try again")

    def _refuse(self, code: EnrolmentCode, reason: str, address: str) -> Refuse:
        log.warning("a host was refused", peer=address, code=code, reason=reason)
        self._allowance(address).charge(REFUSED_COSTS, self._clock.monotonic())
        return Refuse(code=code, reason=reason[:4_000])

    def _allowance(self, address: str) -> Allowance:
        group = peer_group(address)
        found = self._allowances.pop(group, None)
        if found is None:
            found = Allowance(CALLS_PER_S, CALL_BURST, self._clock.monotonic())
        self._allowances[group] = found
        if len(self._allowances) > MAX_ADDRESSES:
            self._allowances.popitem(last=False)
        return found


def _identify(connection: ServerConnection) -> Peer:
    """Who leaves. Raises EnrolmentRefusedError."""
    peer = read_peer(connection.transport)
    if peer is None:
        raise EnrolmentRefusedError(
            EnrolmentCode.UNKNOWN_CERTIFICATE, "this host showed no certificate of an agent"
        )
    return peer


def _path(request: Request | None) -> str:
    return urlsplit(request.path).path if request is not None else ""
