"""indices of lists, of the log of one instance and of what ran at a time"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

INDICES = (
    ("ix_event_operation_instance", "event", ["operation", "instance_id", "id"]),
    ("ix_operation_kind_accepted_at", "operation", ["kind", "accepted_at", "id"]),
    ("ix_operation_kind_service", "operation", ["kind", "service", "accepted_at", "id"]),
    ("ix_operation_kind_status", "operation", ["kind", "status", "accepted_at", "id"]),
    ("ix_version_history_live", "version_history", ["instance_id", "status", "at", "id"]),
    ("ix_version_history_service", "version_history", ["service", "instance_id"]),
)


def upgrade() -> None:
    for name, table, columns in INDICES:
        op.create_index(name, table, columns)


def downgrade() -> None:
    for name, table, _ in INDICES:
        op.drop_index(name, table)
