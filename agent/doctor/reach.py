"""The way to the controller, one step after the other: name, port, TLS, and what its clock says."""

import http.client
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Final
from urllib.parse import urlsplit

from agent.core.diagnosis import judge_clock
from agent.core.finding import Finding, fine, problem
from agent.identity import Membership
from agent.trouble import describe_trouble
from shared.clock import Clock
from shared.enrolment import AUTHORITY_PATH

TIMEOUT_S: Final = 5.0


def examine_reach(member: Membership, clock: Clock) -> list[Finding]:
    """The first step that fails is the last that is told, but for the clock."""
    parts = urlsplit(member.url)
    host, port = parts.hostname or "", parts.port or 443
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        return [
            _fail(
                "reach.dns", exc, member, clock, f"getent hosts {host}: put the name into DNS or /etc/hosts"
            )
        ]
    addresses = sorted({str(one[4][0]) for one in found})
    steps = [fine("reach.dns", host, f"{host} is {', '.join(addresses)}")]
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except OSError as exc:
        mend = (
            "look whether the controller runs there, and whether a firewall keeps this host from TCP port"
            f" {port}: nc -zv {host} {port}"
        )
        return [*steps, _fail("reach.tcp", exc, member, clock, mend)]
    steps.append(fine("reach.tcp", parts.netloc, f"TCP port {port} is open"))
    try:
        told_at = _fetch(host, port, member.tls, clock)
    except (OSError, http.client.HTTPException, _UnexpectedAnswerError) as exc:
        mend = "as the reason says; a proxy in between must pass TCP through, and not end TLS"
        steps.append(_fail("reach.tls", exc, member, clock, mend))
        return [*steps, *judge_clock(_ask_anybody(host, port, clock), parts.netloc, vouched=False)]
    steps.append(fine("reach.tls", parts.netloc, "TLS: each takes the other's certificate"))
    return [*steps, *judge_clock(told_at, parts.netloc, vouched=True)]


class _UnexpectedAnswerError(Exception):
    """Somebody answered, and not as a controller does."""


def _fetch(host: str, port: int, tls: ssl.SSLContext, clock: Clock) -> float | None:
    """By how many seconds this host's clock is ahead; None when nobody says. Raises OSError, HTTPException,
    _UnexpectedAnswerError."""
    connection = http.client.HTTPSConnection(host, port, context=tls, timeout=TIMEOUT_S)
    try:
        connection.request("GET", AUTHORITY_PATH)
        answer = connection.getresponse()
        answer.read(65_536)
        now = clock.now()
    finally:
        connection.close()
    if answer.status != HTTPStatus.OK:
        raise _UnexpectedAnswerError(f"HTTP {answer.status}: is this the controller's agent port?")
    return _ahead_s(answer.getheader("Date", ""), now)


def _ask_anybody(host: str, port: int, clock: Clock) -> float | None:
    """The same of whoever is there: when a wrong clock is why TLS fails, TLS cannot tell by how much."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        return _fetch(host, port, context, clock)
    except (OSError, http.client.HTTPException, _UnexpectedAnswerError):
        return None


def _ahead_s(date: str, now: datetime) -> float | None:
    try:
        told = parsedate_to_datetime(date)
    except ValueError:
        return None
    return (now - (told if told.tzinfo else told.replace(tzinfo=UTC))).total_seconds()


def _fail(check: str, error: Exception, member: Membership, clock: Clock, mend: str) -> Finding:
    subject = urlsplit(member.url).netloc
    why = describe_trouble(error, member, clock.now())
    return problem(check, subject, "the controller is not reached", why=why, mend=mend)
