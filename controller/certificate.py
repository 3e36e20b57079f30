"""The API's certificate, which follows its files: what renews it need not restart the controller."""

import asyncio
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NoReturn, TypeVar

from controller.handshakes import BoundedContext, Handshakes
from controller.rounds import repeat
from shared.clock import Clock
from shared.logs import get_log
from shared.settings import Problem

LOOK_EVERY_S: Final = 5.0
ContextT = TypeVar("ContextT", bound=ssl.SSLContext)
_Signature = tuple[tuple[int, int, int], ...]

log = get_log(__name__)


class FollowedCertificate:
    """Connections that begin after a change of the files get the new certificate; open ones stay as they
    are. A pair that cannot be used changes nothing and is told once."""

    def __init__(self, cert_file: Path, key_file: Path, clock: Clock) -> None:
        """Both PEM; `cert_file` holds the chain. Raises OSError when a file cannot be read, ssl.SSLError when
        they do not belong together."""
        self._files, self._clock = (cert_file, key_file), clock
        self._seen = _sign(self._files)
        self._newest = load_pair(cert_file, key_file)
        self.context = _load(BoundedContext(ssl.PROTOCOL_TLS_SERVER), cert_file, key_file)
        """What the server listens with; it hands each handshake to the newest one."""
        self.context.handshakes = Handshakes(clock)
        self.context.sni_callback = self._choose

    def _choose(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        """A context is never changed while others use it: half a pair must not be seen. Called for each
        handshake, also without a server name."""
        connection.context = self._newest

    async def run(self) -> NoReturn:
        """Follow the files until cancelled."""
        await repeat("certificate", self.look, self._clock, every_s=LOOK_EVERY_S, first_after_s=LOOK_EVERY_S)

    async def look(self) -> None:
        """Take over the pair if its files have changed since the last look."""
        await asyncio.to_thread(self._look)

    def _look(self) -> None:
        cert_file, key_file = self._files
        try:
            seen = _sign(self._files)
            if seen == self._seen:
                return
            self._seen = seen
            self._newest = load_pair(cert_file, key_file)
        except OSError as exc:  # ssl.SSLError is one
            log.warning(
                "certificate could not be read again",
                file=str(cert_file),
                reason=str(exc),
                remedy="the one from before is kept; write both files anew",
            )
        else:
            log.info("certificate was read again", file=str(cert_file))


def load_pair(cert_file: Path, key_file: Path) -> ssl.SSLContext:
    """A server's context, TLS 1.2 at least. Raises OSError, ssl.SSLError."""
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), cert_file, key_file)


def _load(context: ContextT, cert_file: Path, key_file: Path) -> ContextT:
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert_file, key_file, password=lambda: b"")  # nobody is there to be asked
    return context


def find_pair_problems(section: str, cert_file: Path | None, key_file: Path | None) -> Iterator[Problem]:
    """What is wrong with a pair of a configuration; nothing if neither is given."""
    if cert_file is None and key_file is None:
        return
    if cert_file is None or key_file is None:
        yield Problem(section, "needs cert_file and key_file together")
        return
    unreadable = False
    for name, file in (("cert_file", cert_file), ("key_file", key_file)):
        try:
            file.read_bytes()
        except OSError as exc:
            unreadable = True
            yield Problem(f"{section}.{name}", f"{file} cannot be read: {exc.strerror or exc}")
    if unreadable:
        return
    try:
        load_pair(cert_file, key_file)
    except OSError as exc:
        yield Problem(f"{section}.cert_file", f"cannot be used with {section}.key_file: {exc}")


def _sign(files: tuple[Path, Path]) -> _Signature:
    """What tells one state of the files from another, also through links that are replaced."""
    found = [file.stat() for file in files]
    return tuple((status.st_ino, status.st_size, status.st_mtime_ns) for status in found)
