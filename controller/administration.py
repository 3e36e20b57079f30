"""What administrators do on the controller's own machine: with the database open, whether or not a controller
runs on it. Who may read the database and the authority's key needs no token."""

import asyncio
import os
import pwd
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

from controller.config import ControllerConfig
from controller.core.audit import Actor
from controller.keyring import open_keyring
from controller.shared_clock import SharedClock
from controller.store import Store, open_store
from releasehand.model import ActorKind
from shared.clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Desk:
    """An open database, and whose hands are on it."""

    store: Store
    actor: Actor
    now: datetime


@asynccontextmanager
async def open_desk(config: ControllerConfig, clock: Clock | None = None) -> AsyncIterator[Desk]:
    """The store beside a controller that may be running. Raises StoreUnavailableError, KeyFileError,
    OSError."""
    shared = SharedClock(clock or SystemClock())
    keyring = await asyncio.to_thread(open_keyring, config)
    store = await open_store(config.database, shared, keyring, beside=True)
    try:
        await shared.follow(store)
        yield Desk(store, Actor(account(), ActorKind.LOCAL), shared.now())
    finally:
        await store.close()


def account() -> str:
    """The account that runs this; who called it through sudo, if somebody did."""
    return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
