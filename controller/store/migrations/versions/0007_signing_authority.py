"""Each certificate tells which authority signed it: replacing one waits for exactly those that need it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("certificate", sa.Column("authority", sa.String(), nullable=False, server_default=""))


def downgrade() -> None:
    op.drop_column("certificate", "authority")
