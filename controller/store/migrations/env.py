"""Alembic's entry: the connection is handed over by controller.store.schema."""

from alembic import context

import controller.store.access_tables
import controller.store.tables  # noqa: F401 - fills the metadata
from controller.store.columns import Row

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Row.metadata,
    render_as_batch=True,
    compare_type=True,
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
