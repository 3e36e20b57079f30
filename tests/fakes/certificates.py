"""Identities for tests: agents that a controller knows, and an authority for hubs that are no controllers."""

import asyncio
import atexit
import functools
import shutil
import ssl
import tempfile
import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from controller.core.audit import Actor
from controller.core.enrolment import Certificate
from controller.local_agents import enrol_here
from controller.pki import Authority, HubCertificate, issue_for_agent, open_authority
from controller.store import Store
from controller.store.engine import Database
from controller.store.schema import migrate
from releasehand.model import ActorKind
from shared.clock import SystemClock
from shared.identity_folder import IdentityFolder
from shared.tls import link_context
from tests.fakes.keys import KEYRING

MONTH = timedelta(days=30)
_MIGRATING = threading.Lock()


async def enrol(
    database: str,
    pki: Path,
    state_dirs: Mapping[str, Path],
    url: str,
    *,
    life: timedelta = MONTH,
    new: bool = False,
) -> None:
    """Have agents join the controller of this database and this authority, by the host's own clock. `new`:
    the controller has not run yet."""
    clock = SystemClock()
    if new:
        await asyncio.to_thread(_migrate, database)
    connection = Database(database)
    store = Store(connection, clock, KEYRING)
    try:
        authority = open_authority(pki, clock.now())
        actor = Actor("tests", ActorKind.LOCAL)
        await enrol_here(store, authority, state_dirs, url=url, life=life, actor=actor)
    finally:
        await store.close()


def _migrate(url: str) -> None:
    """Worlds are made side by side, but migrations run one at a time in a process: Alembic's are global."""

    async def upgrade() -> None:
        database = Database(url)
        try:
            await migrate(database)
        finally:
            await database.close()

    if (path := urlsplit(url).path[1:]).startswith("/"):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    with _MIGRATING:
        asyncio.run(upgrade())


def context_of(state_dir: Path) -> ssl.SSLContext:
    """What an agent with this identity connects by."""
    folder = IdentityFolder(state_dir)
    return link_context(folder.authority_file, folder.certificate_file, folder.key_file)


@functools.cache
def spare_authority() -> tuple[Path, Authority]:
    """One for all tests of this process, with its folder; of no controller."""
    folder = Path(tempfile.mkdtemp(prefix="releasehand-pki-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, open_authority(folder, SystemClock().now())


def spare_hub() -> ssl.SSLContext:
    """What a hub of the spare authority listens with, at localhost and 127.0.0.1."""
    folder, authority = spare_authority()
    return HubCertificate(authority, folder, ["localhost", "127.0.0.1"], SystemClock()).open()


def give_identity(
    state_dir: Path,
    agent_id: str,
    url: str,
    *,
    authority: Authority | None = None,
    issued_at: datetime | None = None,
    life: timedelta = MONTH,
    serial: str = "1",
) -> None:
    """An identity of the spare authority, or another one; no controller knows it."""
    authority = authority or spare_authority()[1]
    begin = issued_at or SystemClock().now()
    key = ec.generate_private_key(ec.SECP256R1())
    given = Certificate(serial, agent_id, "", begin, begin + life, authority.key_hash)
    IdentityFolder(state_dir).write(
        key=key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
        certificate=issue_for_agent(authority, given, key.public_key()).encode(),
        authority=authority.pem,
        url=url,
    )
