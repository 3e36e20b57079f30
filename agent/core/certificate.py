"""What this agent's own certificate says. Read with a few lines of DER (X.690): the library that could do it
would stay in the daemon's memory for months.

Nothing is checked here: the controller gave it out, and TLS shows it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from shared.identity import find_agent_id

_SEQUENCE: Final = 0x30
_TIMES: Final = {0x17: False, 0x18: True}  # UTCTime, GeneralizedTime: does it have the century?
_EXTENSIONS: Final = 0xA3
_URI: Final = 0x86
_ALTERNATIVE_NAMES: Final = bytes.fromhex("551d11")
_PEM: Final = re.compile(r"-----BEGIN CERTIFICATE-----[A-Za-z0-9+/=\s]+-----END CERTIFICATE-----")


class BadCertificateError(ValueError):
    """These bytes are no certificate of an agent."""


@dataclass(frozen=True, slots=True)
class OwnCertificate:
    """Whose it is, and when it is good."""

    agent_id: str
    begins_at: datetime
    ends_at: datetime


def read_own(der: bytes) -> OwnCertificate:
    """Raises BadCertificateError."""
    try:
        [(_, certificate)] = _parts(der)
        [(_, signed), *_] = _parts(certificate)
        fields = list(_parts(signed))
        # RFC 5280, 4.1: the validity is the sequence of two times; the extensions have a tag of their own.
        begins_at, ends_at = next(_validities(fields))
        [extensions] = [content for tag, content in fields if tag == _EXTENSIONS]
        agent_id = find_agent_id(_uris(extensions))
    except (ValueError, LookupError, StopIteration) as exc:
        raise BadCertificateError("it is no certificate") from exc
    if not agent_id:
        raise BadCertificateError("it names no agent")
    return OwnCertificate(agent_id, begins_at, ends_at)


def find_pem(text: str) -> str:
    """The first certificate in PEM form. Raises BadCertificateError when there is none."""
    found = _PEM.search(text)
    if found is None:
        raise BadCertificateError("it holds no certificate in PEM form")
    return found.group()


def _validities(fields: list[tuple[int, bytes]]) -> Iterator[tuple[datetime, datetime]]:
    for tag, content in fields:
        if tag == _SEQUENCE and content[:1] and content[0] in _TIMES:
            begin, end = (_read_time(kind, value) for kind, value in _parts(content))
            yield begin, end


def _read_time(kind: int, value: bytes) -> datetime:
    """RFC 5280, 4.1.2.5: in UTC, to the second. A year of two digits is before 2050."""
    text = value.decode("ascii")
    century = "" if _TIMES[kind] else "20" if text < "50" else "19"
    return datetime.strptime(f"{century}{text}+0000", "%Y%m%d%H%M%SZ%z")


def _uris(extensions: bytes) -> Iterator[str]:
    [(_, listed)] = _parts(extensions)
    for _, extension in _parts(listed):
        (_, identifier), *_, (_, value) = _parts(extension)
        if identifier == _ALTERNATIVE_NAMES:
            [(_, names)] = _parts(value)
            yield from (name.decode("ascii") for tag, name in _parts(names) if tag == _URI)


def _parts(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each value in `data`, one after the other. Raises ValueError or IndexError."""
    at = 0
    while at < len(data):
        tag, size, at = data[at], data[at + 1], at + 2
        if size & 0x80:
            width = size & 0x7F
            size, at = int.from_bytes(data[at : at + width]), at + width
        if at + size > len(data):
            raise ValueError("a value is longer than what holds it")
        yield tag, data[at : at + size]
        at += size
