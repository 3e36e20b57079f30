"""The store as the rest of the controller sees it: each method is one look or one transaction."""

from controller.checkpoint import Checkpoint, pass_by
from shared.clock import Clock
from shared.sealing import Keyring

from .access import Access
from .engine import Database, make_directory
from .enrolments import Enrolments
from .orders import Orders
from .schema import migrate
from .sessions import Sessions
from .views import Views
from .work import Work


async def open_store(
    url: str, clock: Clock, keyring: Keyring, *, checkpoint: Checkpoint = pass_by, beside: bool = False
) -> "Store":
    """Connect, bring the schema up to date and make sure that commits are durable. Raises
    StoreUnavailableError.

    Opened `beside` a controller that may be running, who is connected stays as it is."""
    make_directory(url)
    database = Database(url)
    try:
        await migrate(database)
        await database.check()
        store = Store(database, clock, keyring, checkpoint)
        if not beside:
            await store.forget_presence()
    except BaseException:
        await database.close()
        raise
    return store


class Store(Orders, Views, Access, Enrolments, Work, Sessions):
    """All of it, on one database."""
