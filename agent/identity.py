"""Who this agent is, as its host keeps it: key, certificate, the authority, and where the controller is."""

import hashlib
import ssl
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from agent.core.certificate import BadCertificateError, find_pem, read_own
from shared.errors import ReleasehandError
from shared.identity_folder import IdentityFolder
from shared.tls import link_context

MAX_URL_CHARS: Final = 4_096


class NotJoinedError(ReleasehandError):
    """This host has no identity yet."""

    def __init__(self) -> None:
        super().__init__(
            "cannot connect: this host has not joined a controller; make a join token there, then"
            " releasehand-agent join --url wss://HOST:PORT --token-file FILE"
        )


class IdentityError(ReleasehandError):
    """What the host keeps is of no use, or is not what agent.toml says. The text says what to do."""


@dataclass(frozen=True, slots=True)
class Membership:
    """What a host has joined. `tls` shows its certificate and trusts the authority that it joined, alone."""

    agent_id: str
    url: str
    begins_at: datetime
    ends_at: datetime
    trust_sha256: str  # of the file with the authorities
    tls: ssl.SSLContext


@dataclass(frozen=True, slots=True)
class Expected:
    """What agent.toml says of the same; "" where it says nothing. `url` is where the controller is now: it is
    the one that was joined wherever it shows a certificate of that authority (docs/decisions/0012)."""

    agent_id: str = ""
    url: str = ""


def read_membership(state_dir: Path, expected: Expected) -> Membership:
    """What is in the folder now. Blocks. Raises NotJoinedError, IdentityError."""
    folder = IdentityFolder(state_dir)
    if not folder.certificate_file.exists():
        raise NotJoinedError
    try:
        url = folder.url_file.read_text(encoding="ascii")[:MAX_URL_CHARS].strip()
        pem = find_pem(folder.certificate_file.read_text(encoding="ascii"))
        own = read_own(ssl.PEM_cert_to_DER_cert(pem))
        trust_sha256 = hashlib.sha256(folder.authority_file.read_bytes()).hexdigest()
    except OSError as exc:
        raise IdentityError(f"cannot read {exc.filename}: {exc.strerror}") from exc
    except (BadCertificateError, ValueError) as exc:
        raise IdentityError(f"cannot use {folder.certificate_file}: {exc}; join again") from exc
    if expected.agent_id not in ("", own.agent_id):
        raise IdentityError(
            f"cannot connect: agent.toml says agent_id = '{expected.agent_id}', and this host joined as"
            f" '{own.agent_id}': take it out of agent.toml, or join again"
        )
    tls = _make_context(folder)
    where = expected.url.rstrip("/") or url
    return Membership(own.agent_id, where, own.begins_at, own.ends_at, trust_sha256, tls)


def _make_context(folder: IdentityFolder) -> ssl.SSLContext:
    try:
        return link_context(folder.authority_file, folder.certificate_file, folder.key_file)
    except ssl.SSLError as exc:
        why = "its files do not belong together" if exc.reason == "KEY_VALUES_MISMATCH" else exc.reason or exc
        raise IdentityError(f"cannot use {folder.path}: {why}; join again") from exc
    except OSError as exc:
        raise IdentityError(f"cannot use {folder.path}: {exc.strerror}; join again") from exc
