"""Paths that are open to everybody: how often one stranger may come."""

import http

import pytest
from websockets.asyncio.server import ServerConnection
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.server import ServerProtocol

from controller.hub.doors import CALL_BURST, CALLS_PER_S, REFUSED_COSTS, Doors
from controller.hub.peer import Peer
from shared.enrolment import AUTHORITY_PATH, Join, Joined, Left, RenewExpired
from tests.fakes.clock import FakeClock


class NobodyJoins:
    """A registrar of whom nothing but the authorities is asked."""

    trusted = b"-----BEGIN CERTIFICATE-----\n"

    async def join(self, asked: Join, *, address: str) -> Joined:
        raise AssertionError(asked)

    async def renew_expired(self, asked: RenewExpired, *, address: str) -> Joined:
        raise AssertionError(asked)


class NobodyLeaves:
    async def leave(self, peer: Peer, *, address: str) -> Left:
        raise AssertionError(peer)


def unserved() -> ServerConnection:
    return ServerConnection(ServerProtocol(), server=None)  # type: ignore[arg-type]


async def test_who_knocks_all_the_time_without_a_certificate_fills_no_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    clock = FakeClock()
    doors = Doors(NobodyJoins(), NobodyLeaves(), clock)
    answers = {doors.turn_away(unserved(), "192.0.2.7").status_code for _ in range(1_000)}
    assert answers == {http.HTTPStatus.UNAUTHORIZED}
    assert len(caplog.records) == CALL_BURST / REFUSED_COSTS
    doors.turn_away(unserved(), "192.0.2.8")
    clock.advance(REFUSED_COSTS / CALLS_PER_S)
    doors.turn_away(unserved(), "192.0.2.7")
    assert len(caplog.records) == CALL_BURST / REFUSED_COSTS + 2


async def test_a_network_of_one_customer_counts_as_one_stranger() -> None:
    """Whoever has one IPv6 address has 2**64: as many allowances would be none."""
    doors = Doors(NobodyJoins(), NobodyLeaves(), FakeClock())

    def come(address: str) -> http.HTTPStatus:
        answer = doors.admit(unserved(), Request(AUTHORITY_PATH, Headers()), address)
        assert isinstance(answer, Response)
        return http.HTTPStatus(answer.status_code)

    let_in = [come(f"2001:db8::{number:x}") for number in range(CALL_BURST)]
    assert set(let_in) == {http.HTTPStatus.OK}
    assert come("2001:db8::ffff") is http.HTTPStatus.SERVICE_UNAVAILABLE
    assert come("2001:db8:0:1::1") is http.HTTPStatus.OK
    assert come("::ffff:192.0.2.7") is http.HTTPStatus.OK
