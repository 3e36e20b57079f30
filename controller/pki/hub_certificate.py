"""The hub's own certificate: issued by the authority, and issued again in time while the hub listens."""

import asyncio
import ssl
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from controller.handshakes import Handshakes
from shared.clock import Clock
from shared.files import replace_file
from shared.logs import get_log

from .authority import CERTIFICATE_NAME, Authority, AuthorityError, make_key
from .handshake import TellingContext
from .issue import general_name, issue_for_server

FILE_NAME: Final = "hub.pem"
KEY_NAME: Final = "hub.key"
LIFE: Final = timedelta(days=90)
RENEWED_BEFORE_END: Final = timedelta(days=30)
LOOK_EVERY_S: Final = 3_600.0

log = get_log(__name__)


class HubCertificate:
    """Certificate and key in the authority's folder, and the context that the hub listens with."""

    def __init__(self, authority: Authority, directory: Path, names: Sequence[str], clock: Clock) -> None:
        """For a hub that agents find at `names`: addresses and host names, at least one."""
        self._authority, self._directory, self._clock = authority, directory, clock
        self._names = list(dict.fromkeys(names))
        self._context: ssl.SSLContext | None = None

    def open(self) -> ssl.SSLContext:
        """The context to listen with; certificate and key are made first where they are missing or of no more
        use. Blocks. Raises AuthorityError, OSError, ssl.SSLError."""
        self._refresh()
        context = TellingContext(ssl.PROTOCOL_TLS_SERVER)
        context.handshakes = Handshakes(self._clock)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_OPTIONAL  # who shows none is told why in words (decisions/0008)
        context.num_tickets = 0  # a resumed session would skip the look at the certificate
        context.load_verify_locations(cafile=self._directory / CERTIFICATE_NAME)
        context.load_cert_chain(self._directory / FILE_NAME, self._directory / KEY_NAME)
        self._context = context
        return context

    async def run(self) -> NoReturn:
        """Renew the certificate whenever it is due; open connections keep the one they began with."""
        while True:
            await self._clock.sleep(LOOK_EVERY_S)
            try:
                await asyncio.to_thread(self.renew)
            except (AuthorityError, OSError, ssl.SSLError) as exc:
                log.warning("the hub's certificate could not be renewed", reason=str(exc))

    def renew(self) -> bool:
        """Issue and show a new certificate if that is due; False if it is not. Blocks."""
        if not self._refresh():
            return False
        assert self._context is not None, "open comes first"
        self._context.load_cert_chain(self._directory / FILE_NAME, self._directory / KEY_NAME)
        return True

    def _refresh(self) -> bool:
        now = self._clock.now()
        key = make_key(self._directory / KEY_NAME)
        certificate = _read(self._directory / FILE_NAME)
        reason = find_flaw(certificate, self._authority, key.public_key(), self._names, now)
        if not reason:
            return False
        pem = issue_for_server(self._authority, self._names, key.public_key(), now=now, life=LIFE)
        replace_file(self._directory / FILE_NAME, pem)
        log.info("the hub's certificate was issued", names=",".join(self._names), reason=reason)
        return True


def find_flaw(
    certificate: x509.Certificate | None,
    authority: Authority,
    key: ec.EllipticCurvePublicKey,
    names: Sequence[str],
    now: datetime,
) -> str:
    """Why a new certificate is due, in words; "" when the old one does."""
    if certificate is None:
        return "there was none"
    if certificate.public_key() != key:
        return "it was for another key"
    try:
        certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return "it was another authority's"
    if now < certificate.not_valid_before_utc:
        return "it had not begun"
    left = certificate.not_valid_after_utc - now
    if left < min(RENEWED_BEFORE_END, authority.ends_at - now):
        return "it was near its end"
    named = _names_of(certificate)
    missing = [name for name in names if general_name(name) not in named]
    return f"it did not name {', '.join(missing)}" if missing else ""


def _names_of(certificate: x509.Certificate) -> set[x509.GeneralName]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound:
        return set()


def _read(file: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
