"""Who is at the other end of a connection, by the certificate that TLS has checked."""

import ssl
from asyncio import BaseTransport
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from controller.pki import BadRequestError, hash_link_key, serial_text
from shared.identity import find_agent_id


@dataclass(frozen=True, slots=True)
class Peer:
    """An agent's certificate. `serial` and `key_sha256` are as the store has them; the link ends with it, at
    `ends_at`."""

    agent_id: str
    serial: str
    key_sha256: str
    ends_at: datetime


def read_peer(transport: BaseTransport) -> Peer | None:
    """None when it showed no certificate, or one that names no agent."""
    certificate: dict[str, Any] = transport.get_extra_info("peercert") or {}
    uris = [text for kind, text in certificate.get("subjectAltName", ()) if kind == "URI"]
    agent_id = find_agent_id(uris)
    if not agent_id:
        return None
    ends_at = datetime.fromtimestamp(ssl.cert_time_to_seconds(certificate["notAfter"]), UTC)
    try:
        key_sha256 = hash_link_key(transport.get_extra_info("ssl_object").getpeercert(binary_form=True))
    except BadRequestError:
        return None
    return Peer(agent_id, serial_text(int(certificate["serialNumber"], 16)), key_sha256, ends_at)
