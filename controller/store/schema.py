"""Bringing a database to the newest schema: Alembic, run by the controller itself at its start."""

from functools import cache
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from controller.core.refusals import NewerSchemaError

from .engine import Database

MIGRATIONS: Final = Path(__file__).parent / "migrations"


def alembic_config(connection: Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    return config


async def migrate(database: Database) -> None:
    """Upgrade in one transaction. Raises NewerSchemaError for a database that a newer release has changed,
    StoreUnavailableError."""
    async with database.write() as conn:
        await conn.run_sync(_upgrade)


def _upgrade(connection: Connection) -> None:
    heads, known = _revisions()
    found = MigrationContext.configure(connection).get_current_heads()
    if frozenset(found) == heads:
        return
    if strange := [revision for revision in found if revision not in known]:
        raise NewerSchemaError(strange[0])
    command.upgrade(alembic_config(connection), "head")


@cache
def _revisions() -> tuple[frozenset[str], frozenset[str]]:
    """The newest ones, and all of them."""
    scripts = ScriptDirectory.from_config(alembic_config())
    return frozenset(scripts.get_heads()), frozenset(script.revision for script in scripts.walk_revisions())
