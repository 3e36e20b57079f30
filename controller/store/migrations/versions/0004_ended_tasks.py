"""Figures are asked of the tasks that ended within a time."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

HAS_ENDED = "completed_at IS NOT NULL"
PHASE_ENDED = "event = 'phase_ended'"


def upgrade() -> None:
    op.create_index(
        "ix_task_completed_at",
        "task",
        ["completed_at", "status", "error_code", "id", "accepted_at"],
        sqlite_where=sa.text(HAS_ENDED),
        postgresql_where=sa.text(HAS_ENDED),
    )
    op.create_index(
        "ix_task_operation_completed_at",
        "task",
        ["operation", "completed_at"],
        sqlite_where=sa.text(HAS_ENDED),
        postgresql_where=sa.text(HAS_ENDED),
    )
    op.create_index(
        "ix_event_phase_ended",
        "event",
        ["task", "event", "phase", "outcome", "duration_s"],
        sqlite_where=sa.text(PHASE_ENDED),
        postgresql_where=sa.text(PHASE_ENDED),
    )


def downgrade() -> None:
    op.drop_index("ix_event_phase_ended", "event")
    op.drop_index("ix_task_operation_completed_at", "task")
    op.drop_index("ix_task_completed_at", "task")
